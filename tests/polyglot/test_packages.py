"""The packages of the other languages: their own tests, what their READMEs show, and the import of a chat log."""

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.polyglot.conftest import Built
from tests.support import PASSWORD, LocalServer, ServerProcess, create_account, log_in
from tests.wire import everything
from tools.toolchains import LANGUAGES, ROOT

pytestmark = pytest.mark.timeout(1200)  # the first test of a language builds it
OTHERS = [name for name in LANGUAGES if name != "python"]
QUICKSTARTS = {
    "go": "gen/go/examples/quickstart/main.go",
    "typescript": "gen/typescript/examples/quickstart.ts",
    "java": "gen/java/src/test/java/com/reflexio/examples/Quickstart.java",
    "rust": "gen/rust/examples/quickstart.rs",
}
STEPS = ["Install", "Log in", "Publish", "Stream", "Search", "Erase", "Errors", "Several servers"]
TAKES_TURNS = {"go": True, "typescript": False, "java": True, "rust": True}


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("language", ["go", "typescript"])
def test_the_packages_own_tests(language: str, built: Built) -> None:
    print(built(language).test())


@pytest.mark.parametrize("language", OTHERS)
def test_what_the_readme_shows_runs_twice_and_after_the_others(
    language: str, built: Built, server: LocalServer, everyones_account: str, caplog: pytest.LogCaptureFixture
) -> None:
    """N8: what erased its requests once does not meet their ids again, nor those of another language."""
    for _ in range(2):
        assert_shows(built(language).command("quickstart"), server, everyones_account, TAKES_TURNS[language])
    watched = any(getattr(record, "method", "") == "/grpc.health.v1.Health/Watch" for record in caplog.records)
    assert watched == (TAKES_TURNS[language] and language != "rust")


@pytest.mark.parametrize("language", OTHERS)
def test_no_id_is_the_same_in_each_run_and_a_repeat_is_the_same_message(language: str) -> None:
    """N8: what was erased once does not meet its ids again."""
    for name in (QUICKSTARTS[language], f"gen/{language}/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        ids = re.findall(r"(?:request_?id)\b[^\n]*?[:(][ \t]*([^\n]+)", text, re.IGNORECASE)
        assert any("run" in one for one in ids)
        assert not [one for one in ids if re.search(r"parcel|clicks", one) and "run" not in one]
        assert "can be repeated safely" not in text
        assert text.count("again") >= 2


def test_typescripts_page_says_how_to_run_it_on_node_20() -> None:
    text = (ROOT / "gen/typescript/README.md").read_text(encoding="utf-8")
    assert "npx tsc" in text
    assert re.search(r"^REFLEXIO_ADDRESS=.* node build/quickstart\.js$", text, re.MULTILINE)
    assert ".mts" not in text


@pytest.fixture(scope="module")
def everyones_account(server: LocalServer) -> str:
    """The email of one account for the programs of every language."""
    return create_account(server.data_dir)


def assert_shows(command: list[str], server: LocalServer, email: str, takes_turns: bool) -> None:
    output = run(command, REFLEXIO_ADDRESS=server.address, REFLEXIO_EMAIL=email, REFLEXIO_PASSWORD=PASSWORD)
    lines = output.splitlines()
    if takes_turns:
        assert lines.pop() == f"one that serves knows {email}"
    *first, found, erased, refused, reason, required, empty = lines
    assert first == [
        f"logged in as {email}",
        "published 2 interactions",
        "sent again, and stored before: true",
        "streamed: 3 stored, 0 duplicate, 0 rejected",
    ]
    assert re.fullmatch(r"0\.[1-9]\d User: My parcel never arrived\.", found)
    assert erased == "erased: 4 requests, 5 interactions"
    assert re.fullmatch(r"refused: \w+ user_id: is required and must not be empty \(and 1 more\)", refused)
    assert reason == "reason: INVALID_FIELD"
    assert required == "field: user_id: is required and must not be empty"
    assert empty.startswith("field: interactions: is required")


@pytest.mark.parametrize("language", OTHERS)
def test_the_readme_shows_what_runs(language: str) -> None:
    """Each of its code blocks stands in the program that the test before runs, but for the indentation."""
    readme = (ROOT / "gen" / language / "README.md").read_text(encoding="utf-8")
    program = unindented((ROOT / QUICKSTARTS[language]).read_text(encoding="utf-8"))
    blocks = re.findall(r"^```(?:go|ts|java|rust)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6, "log in, publish, stream, search, erase, errors"
    for block in blocks:
        assert unindented(block) in program, block
    headings = re.findall(r"^## (.+)$", readme, re.MULTILINE)
    assert headings[: len(STEPS)] == STEPS


def unindented(text: str) -> str:
    return "".join(line.strip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("language", OTHERS)
def test_an_import_goes_on_after_the_server_was_killed(
    language: str, built: Built, tmp_path: Path, model_dir: Path
) -> None:
    command = built(language).command("bulk")
    lines = [f"user {number % 5}\tUser\twhat was said {number}" for number in range(2500)]
    lines[1200] = "\tUser\tnobody said this"
    log = tmp_path / "chat.log"
    log.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    email = create_account(tmp_path / "data")
    first = ServerProcess(tmp_path / "data", model_dir)
    servers = [first]
    key = log_in(first.address, email).api_key
    environment = os.environ | {"REFLEXIO_ADDRESS": first.address, "REFLEXIO_API_KEY": key}
    try:
        with (
            log.open() as given,
            subprocess.Popen(
                command, stdin=given, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
            ) as program,
        ):
            assert program.stdout
            printed = [program.stdout.readline()]
            first.kill()
            port = first.address.rpartition(":")[2]
            servers.append(ServerProcess(tmp_path / "data", model_dir, "--port", port))
            printed += program.stdout
        assert program.returncode == 0, printed
        caller = log_in(servers[-1].address, email)
        stored = Counter(item.request_id for item in everything(caller))
    finally:
        for server in servers:
            server.kill()
    assert printed[0] == "settled 1000\n"
    assert sum(line.startswith("rejected") for line in printed) == 1
    counts = re.fullmatch(r"(\d+) stored, (\d+) duplicate, 1 rejected\n", printed[-1])
    assert counts, printed
    assert int(counts[1]) + int(counts[2]) == 2499
    assert stored == {f"chat-log_{number + 1}": 1 for number in range(2500) if number != 1200}


@pytest.mark.parametrize("language", OTHERS)
def test_an_import_bears_connections_that_end(language: str, built: Built, start: Callable[..., LocalServer]) -> None:
    command = built(language).command("bulk")
    server = start(max_connection_age_seconds=0.5, max_connection_age_grace_seconds=4)
    caller = server.new_caller()
    environment = os.environ | {"REFLEXIO_ADDRESS": server.address, "REFLEXIO_API_KEY": caller.api_key}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, encoding="utf-8"
    ) as program:
        assert program.stdin
        assert program.stdout
        for segment in range(4):
            program.stdin.writelines(f"ada\tUser\t{segment} {number}\n" for number in range(1000))
            program.stdin.flush()
            time.sleep(1.5)  # the connection is too old then
        program.stdin.close()
        printed = program.stdout.read()
    assert program.returncode == 0, printed
    assert re.search(r"^4000 stored, 0 duplicate, 0 rejected$", printed, re.MULTILINE), printed
    assert Counter(item.request_id for item in everything(caller)) == {f"chat-log_{n + 1}": 1 for n in range(4000)}
