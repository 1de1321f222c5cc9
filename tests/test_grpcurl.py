"""Runs the commands of docs/grpcurl.md: those with grpcurl where it is installed, those with buf curl everywhere."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.documented_commands import BadDocument, Block, Outcome, fits, read_blocks, run_blocks
from tests.support import PASSWORD, LocalServer, create_account, log_in

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "grpcurl.md"
# What the document has for what differs here.
ADDRESS, EMAIL, CLONE = "127.0.0.1:8081", "ada@example.com", "REFLEXIO=~/reflexio"
HIDDEN = "hidden-"  # blocks of this name call a server without reflection
INSTALL = "go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest"


@dataclass(frozen=True)
class Expected:
    """What must come of a block, beside what the document shows."""

    status: int
    texts: tuple[str, ...]


def ends(status: int, *texts: str) -> Expected:
    return Expected(status, texts)


def fails(code: int, *texts: str) -> Expected:
    return Expected(64 + code, ("ERROR:", *texts))


SHARED = {name: ends(0) for name in ("variables", "picture", "requests")}
GRPCURL = {
    "list": ends(0, "grpc.health.v1.Health", "reflexio.v1.AuthService", "reflexio.v1.InteractionService"),
    "describe-service": ends(0, "rpc GetImage", "rpc SearchInteractions", "( stream .reflexio.v1.Publish"),
    "describe-message": ends(0, "bytes image = 6;", ".google.protobuf.Timestamp created_at = 7;"),
    "template": ends(0, '"interaction_ids"', '"ORDER_UNSPECIFIED"'),
    "health": ends(0, '"SERVING"'),
    "nobody-listens": ends(1, "context deadline exceeded"),
    "plaintext-forgotten": ends(1, "tls: first record does not look like a TLS handshake"),
    "login": ends(0, '"api_key": "rflx_', '"key_id"'),
    "login-from-file": ends(0),
    "whoami": ends(0, EMAIL, '"hint": "rflx_'),
    "publish": ends(0, '"request_id": "support-chat_1"', '"searchable": true'),
    "replay": ends(0, '"replayed": true'),
    "reused-request-id": fails(6, "AlreadyExists", '"reason": "REQUEST_ID_REUSED"', '"request_id": "support-chat_1"'),
    "publish-picture": ends(0, '"interaction_ids"'),
    "search": ends(0, "The export of my report stops at ninety percent.", '"score": 0.', '"semantic": 0.'),
    "search-filtered": ends(0, '"role": "Agent"', '"USER_ACTION_TYPE"'),
    "first-page": ends(0, '"media_type": "image/png"', "Which browser do you use?", '"next_page_token"'),
    "next-page": ends(0, "The export of my report stops at ninety percent."),
    "threads": ends(0, '"request_group": "ticket-17"', "Which browser do you use?"),
    "forward": ends(0, '"request_id": "support-chat_1"', '"request_id": "picture_1"'),
    "get-image": ends(0, '"data": "iVBORw0KGgo', "same picture"),
    "stream": ends(0, '"stored": 2', '"stored": 3', '"reason": "INVALID_FIELD"', "END_REASON_COMPLETE"),
    "packed": ends(0, '"duplicate": 1', '"index": 1', '"reason": "REQUEST_ID_REUSED"'),
    "unwrapped": ends(1, "has no known field named user_id"),
    "violations": fails(3, '"violations": "2"', '"field": "user_id"', '"field": "interactions[1]"', "INVALID_FIELD"),
    "limit": fails(3, '"maximum": "1000"', '"LIMIT_EXCEEDED"', "google.rpc.BadRequest"),
    "no-key": ends(0, '"reason": "UNAUTHENTICATED"', "exit status 80"),
    "deadline": fails(4, "DeadlineExceeded"),
    "stream-again": ends(0, '"duplicate": 2', '"duplicate": 3'),
    "erase-interaction": ends(0, '"requests": 1', '"images": 1'),
    "erase-thread": ends(0, '"requests": 1', '"interactions": 2'),
    "publish-erased": fails(6, "AlreadyExists", '"reason": "REQUEST_ERASED"', '"request_id": "support-chat_1"'),
    "erase-user": ends(0, '"requests": 4', '"interactions": 6'),
    "erase-nothing": fails(5, "NotFound", '"resource": "user"'),
    "list-keys": ends(0, '"api_keys"', '"hint"'),
    "revoke": ends(0, '"revoked_at"'),
    "revoked": fails(16, "Unauthenticated"),
    "hidden-list": ends(1, "server does not support the reflection API"),
    "hidden-describe": ends(0, "// Revokes a key of the account"),
    "hidden-whoami": ends(0, EMAIL),
    "hidden-protoset": ends(0, '"apiKeys"'),
    "hidden-details-raw": fails(16, "google.rpc.ErrorInfo is not recognized"),
    "hidden-details": fails(16, '"reason": "UNAUTHENTICATED"'),
    "hidden-health": ends(0, '"SERVING"'),
}
BUF = {
    "buf-services": ends(0, "grpc.health.v1.Health", "reflexio.v1.AuthService", "reflexio.v1.InteractionService"),
    "buf-methods": ends(0, "reflexio.v1.InteractionService/GetImage", "reflexio.v1.AuthService/WhoAmI"),
    "buf-health": ends(0, '"SERVING"'),
    "buf-login": ends(0, '"apiKey": "rflx_'),
    "buf-whoami": ends(0, EMAIL),
    "buf-publish": ends(0, '"requestId": "cy_1"', '"searchable": true'),
    "buf-search": ends(0, "Here is a screenshot of the broken page.", '"mediaType": "image/png"', '"semantic": 0.'),
    "buf-threads": ends(0, '"requestId": "cy_1"', "Here is a screenshot of the broken page."),
    "buf-stream": ends(0, '"stored": 2', '"stored": 3', '"reason": "INVALID_FIELD"', "END_REASON_COMPLETE"),
    "buf-forward": ends(0, "Where is my invoice?", "Found it"),
    "buf-schema": ends(0, EMAIL),
    "buf-error": ends(0, "exit status 24", '"invalid_argument"', '"google.rpc.BadRequest"'),
    "buf-details": ends(0, '"violations": "2"', '"field": "user_id"', '"field": "interactions[0]"', "INVALID_FIELD"),
}


def find_grpcurl() -> str | None:
    """Where grpcurl is: on PATH, or where Go installs it."""
    folders = [Path.home() / "go" / "bin"]
    if go := shutil.which("go"):
        asked = subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=False, timeout=60)
        folders += [Path(folder) / "bin" for folder in asked.stdout.strip().split(os.pathsep) if folder]
    return shutil.which("grpcurl") or shutil.which("grpcurl", path=os.pathsep.join(map(str, folders)))


def documented() -> list[Block]:
    return read_blocks(DOCUMENT.read_text(encoding="utf-8"))


def run_document(
    names: Collection[str], folder: Path, server: LocalServer, path: str, hidden: dict[str, str] | None = None
) -> dict[str, Outcome]:
    """Run these commands of the document, with an account of their own.

    The outcomes have the document's address and email.
    """
    (folder / "tmp").mkdir()
    email = create_account(server.data_dir)
    blocks = []
    for block in documented():
        if block.name not in names:
            continue
        commands = block.commands.replace(CLONE, f"REFLEXIO={shlex.quote(str(ROOT))}")
        commands = commands.replace(ADDRESS, server.address).replace(EMAIL, email)
        blocks.append(Block(block.name, block.line, commands, block.output))
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("REFLEXIO_", "KEY", "BUF_"))}
    environment |= {"PATH": path, "TMPDIR": str(folder / "tmp")}
    variables = {block.name: hidden for block in blocks if hidden and block.name.startswith(HIDDEN)}
    outcomes = run_blocks(blocks, folder, environment, typed=PASSWORD + "\n", variables=variables)
    return {
        name: Outcome(outcome.status, outcome.output.replace(server.address, ADDRESS).replace(email, EMAIL))
        for name, outcome in outcomes.items()
    }


def path_with(*folders: Path) -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), *map(str, folders), os.environ.get("PATH", "")])


@pytest.fixture(scope="module")
def hidden_server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, grpcurl: Path) -> Iterator[LocalServer]:
    running = LocalServer(tmp_path_factory.mktemp("hidden"), model_dir, reflection=False)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def grpcurl() -> Path:
    found = find_grpcurl()
    if found is None:
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(f"grpcurl is required here, and not installed: {INSTALL}")
        pytest.skip(f"grpcurl is not installed: {INSTALL}")
    return Path(found)


@pytest.fixture(scope="module")
def with_grpcurl(
    tmp_path_factory: pytest.TempPathFactory, grpcurl: Path, server: LocalServer, hidden_server: LocalServer
) -> dict[str, Outcome]:
    email = create_account(hidden_server.data_dir, EMAIL)
    key = log_in(hidden_server.address, email).api_key
    hidden = {"ADDRESS": hidden_server.address, "KEY": key}
    return run_document(SHARED | GRPCURL, tmp_path_factory.mktemp("grpcurl"), server, path_with(grpcurl.parent), hidden)


@pytest.fixture(scope="module")
def with_buf(tmp_path_factory: pytest.TempPathFactory, server: LocalServer) -> dict[str, Outcome]:
    return run_document(SHARED | BUF, tmp_path_factory.mktemp("buf"), server, path_with())


def check(name: str, expected: Expected, outcomes: dict[str, Outcome]) -> None:
    block = next(block for block in documented() if block.name == name)
    outcome = outcomes[name]
    assert outcome.status == expected.status, outcome.output
    for text in expected.texts:
        assert text.replace(" ", "") in outcome.output.replace(" ", ""), outcome.output
    shown = f"docs/grpcurl.md line {block.line} shows:\n{block.output}\nbut it printed:\n{outcome.output}"
    assert fits(block.output or "", outcome.output), shown


@pytest.mark.parametrize("name", SHARED | GRPCURL)
def test_commands_with_grpcurl(name: str, with_grpcurl: dict[str, Outcome]) -> None:
    check(name, (SHARED | GRPCURL)[name], with_grpcurl)


@pytest.mark.parametrize("name", SHARED | BUF)
def test_commands_with_buf_curl(name: str, with_buf: dict[str, Outcome]) -> None:
    check(name, (SHARED | BUF)[name], with_buf)


def test_every_command_of_the_document_is_expected() -> None:
    names = [block.name for block in documented()]
    assert sorted(names) == sorted(SHARED | GRPCURL | BUF)


def test_the_document_has_what_is_replaced() -> None:
    commands = "".join(block.commands for block in documented())
    assert f"ADDRESS={ADDRESS}\n" in commands
    assert f"{CLONE} " in commands
    assert EMAIL in commands
    assert INSTALL in DOCUMENT.read_text(encoding="utf-8")


def test_the_document_shows_no_whole_key() -> None:
    assert not re.search(r"rflx_\w{10}_[\w-]{20}", DOCUMENT.read_text(encoding="utf-8"))


def test_blocks_without_a_marker_or_with_the_same_name_are_refused() -> None:
    with pytest.raises(BadDocument, match="line 3: a sh block without a marker"):
        read_blocks("<!-- run: a -->\ntext\n```sh\ntrue\n```\n")
    with pytest.raises(BadDocument, match="line 6: there are two blocks named a"):
        read_blocks(
            "<!-- run: a -->\n```sh\ntrue\n```\n<!-- run: a -->\n```sh\ntrue\n```\n".replace("```\n<", "```\n<")
        )
    with pytest.raises(BadDocument, match="line 1: this marker is not understood"):
        read_blocks("<!-- run a -->\n")


def test_blocks_share_a_shell_and_are_compared_with_what_they_print(tmp_path: Path) -> None:
    document = "<!-- run: set -->\n```sh\nX=1; read -r Y\n```\n<!-- not run: no -->\n```sh\nfalse\n```\n"
    document += "<!-- run: get -->\n```sh\necho $X $Y; (exit 7)\n```\n\n```text\n1 …\n```\n"
    document += "<!-- run: other -->\n```sh\nX=3; echo $X$Z >&2\n```\nText\n```text\nnot of it\n```\n"
    document += "<!-- run: last -->\n```sh\necho $X\n```\n"
    blocks = read_blocks(document)
    assert [(block.name, block.output) for block in blocks] == [
        ("set", None),
        ("get", "1 …\n"),
        ("other", None),
        ("last", None),
    ]
    outcomes = run_blocks(blocks, tmp_path, os.environ, typed="typed\n", variables={"other": {"Z": "4"}})
    assert outcomes == {
        "set": Outcome(0, ""),
        "get": Outcome(7, "1 typed\n"),
        "other": Outcome(0, "34\n"),
        "last": Outcome(0, "1\n"),
    }
    assert fits("1 …\n", outcomes["get"].output)
    assert not fits("2 …\n", outcomes["get"].output)


def test_outputs_may_differ_in_ids_times_and_scores_only() -> None:
    shown = '{"id": "01a2060a-1b16-72fc-80e1-073eddb060b1", "at": "2026-11-23T01:34:15.3Z", "score": 0.1765, "n": 2}'
    again = '{ "id":"01a2060a-0000-72fc-80e1-073eddb060b2",  "at": "2027-01-01T00:00:00Z", "score": 0.2e-07, "n": 2}'
    assert fits(shown, again.replace("0.2e-07", "0.2222e-07"))
    assert not fits(shown, again.replace("0.2e-07", "0.2222").replace('"n": 2', '"n": 3'))
