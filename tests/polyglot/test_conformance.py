"""The conformance scenario in every language against one live server: equal reports, and the right ones."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict

from reflexio.ids import KEY_PREFIX, SECRET_LENGTH, TAG_LENGTH, checksum
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb
from tests.polyglot.conftest import Built
from tests.polyglot.scenario import read_expected, read_scenario
from tests.polyglot.troubled import TroubledServer
from tests.support import PASSWORD, LocalServer, create_account
from tools.toolchains import LANGUAGES, ROOT

pytestmark = pytest.mark.timeout(1200)  # the first test of a language builds it
EXPECTED = read_expected()
_ERROR_ID = re.compile(r'(internal error |"error_id": ?")[0-9a-f]{16}')  # differs in each run
Reports = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def report_of(server: LocalServer, built: Built, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What a language's program reports, run once, with an account and a troubled server of its own."""

    @cache
    def run(language: str) -> dict[str, Any] | AssertionError:
        folder = tmp_path_factory.mktemp(language)
        caller, stranger = server.new_caller(), server.new_caller()
        theirs = stranger.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=stranger.metadata, timeout=30)
        unknown = f"{KEY_PREFIX}{'a' * TAG_LENGTH}_{'b' * SECRET_LENGTH}"
        scenario = read_scenario(
            email=caller.email,
            unknown_key=unknown + checksum(unknown),
            another_key=theirs.api_key.key_id,
            another_interaction=stranger.publish("u", "not yours").interaction_ids[0],
        )
        before = ParseDict(scenario["replay"]["given"]["published_before"], pb.PublishInteractionsRequest())
        caller.interactions.PublishInteractions(before, metadata=caller.metadata, timeout=30)
        path = folder / "scenario.json"
        path.write_text(json.dumps(scenario, ensure_ascii=False), encoding="utf-8")
        with contextlib.ExitStack() as running:
            troubled = TroubledServer(folder / "troubled", model_dir)
            running.callback(troubled.stop)
            create_account(troubled.data_dir, caller.email)
            command = LANGUAGES[language].command(
                "conformance", "scenario", server.address, troubled.address, str(path)
            )
            try:
                return carry_out(command, troubled, caller.email)
            except AssertionError as failure:
                return failure  # once, not for each section

    def report(language: str) -> dict[str, Any]:
        built(language)
        found = run(language)
        if isinstance(found, AssertionError):
            raise found
        return found

    return report


def carry_out(command: list[str], troubled: TroubledServer, email: str) -> dict[str, Any]:
    """Run a program, cause the trouble it asks for line by line, and return its report, which is its last line."""
    environment = os.environ | {"REFLEXIO_EMAIL": email, "REFLEXIO_PASSWORD": PASSWORD}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as program:
        assert program.stdin
        assert program.stdout
        try:
            for line in program.stdout:
                if line.startswith("{"):
                    report: dict[str, Any] = json.loads(_ERROR_ID.sub(r"\1<error_id>", line))
                    return report
                troubled.causes[line.strip()]()
                print("done", file=program.stdin, flush=True)
        finally:
            program.kill()
    raise AssertionError(f"{command[0]} ended without a report; its errors are above")


@pytest.mark.parametrize("section", EXPECTED)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_reports_what_is_expected(language: str, section: str, report_of: Reports) -> None:
    assert report_of(language)[section] == EXPECTED[section]


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "python"])
def test_the_report_equals_pythons(language: str, report_of: Reports) -> None:
    assert report_of(language) == report_of("python")
