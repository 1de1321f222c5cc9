"""W14 and 41: a password is the same in every form it is typed in, and what Login refuses makes no account."""

import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from reflexio_server.core import accounts
from reflexio_server.storage import accounts as store
from tests import stores
from tests.command import EMAIL, create, run, said
from tests.support import LocalServer, log_in
from tests.wire import failure

NFC = unicodedata.normalize("NFC", "Grüße aus Äpfelstraße")
NFD = unicodedata.normalize("NFD", NFC)


def created(data_dir: Path, given: bytes, email: str = EMAIL) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "reflexio_server", "accounts", "create", email, "--data-dir", str(data_dir)]
    env = stores.environment(data_dir)
    return subprocess.run(command, input=given, capture_output=True, timeout=60, check=False, env=env)


@pytest.mark.parametrize("made_of", [NFC, NFD], ids=["NFC", "NFD"])
def test_either_form_logs_in(start: Callable[..., LocalServer], tmp_path: Path, made_of: str) -> None:
    assert create(tmp_path, password=made_of).exit_code == 0
    server = start(tmp_path)
    for typed in (NFC, NFD):
        assert log_in(server.address, EMAIL, typed).api_key
    assert failure(log_in, server.address, EMAIL, NFC + "!").code is grpc.StatusCode.UNAUTHENTICATED


def test_a_hash_of_before_still_lets_in(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    server = start(tmp_path)
    with server.app.database.write() as conn:
        store.add_account(conn, EMAIL, "tag0123456", accounts._password_hash.hash(NFD), 1)
    assert log_in(server.address, EMAIL, NFD).api_key


def test_a_byte_order_mark_is_no_part_of_it(start: Callable[..., LocalServer], tmp_path: Path) -> None:
    made = created(tmp_path, "\ufeffa long password\r\n".encode())
    assert made.returncode == 0, made.stderr
    assert log_in(start(tmp_path).address, EMAIL, "a long password").api_key


@pytest.mark.parametrize(
    "given", [b"a long \xff password\n", b"\x80" * 10, "a long password".encode("utf-16"), b"caf\xe9 caf\xe9 caf\xe9"]
)
@pytest.mark.parametrize("environment", ["C.UTF-8", "C"])
def test_what_is_no_text_is_said_in_a_line(
    tmp_path: Path, given: bytes, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", environment)
    monkeypatch.delenv("PYTHONUTF8", raising=False)
    made = created(tmp_path, given)
    assert made.returncode == 1
    assert made.stderr == b"Error: password: must be UTF-8\n"


def test_a_nul_is_refused_as_by_login(tmp_path: Path) -> None:
    assert said(create(tmp_path, password="a long\0password")) == "password: must have no NUL character"
    assert create(tmp_path).exit_code == 0
    text = said(run("accounts", "passwd", EMAIL, "--data-dir", tmp_path, given="another\0password"))
    assert text == "password: must have no NUL character"


@pytest.mark.parametrize("mark", ["\x9b31m", "\u202e", "\u2066", "\u200b", "\ufeff", "\u2028", "\x7f", "\udcff"])
def test_an_email_with_what_cannot_be_seen_is_refused(tmp_path: Path, mark: str) -> None:
    assert said(create(tmp_path, f"me{mark}x@example.com")).startswith("email: must look like")


def test_other_scripts_are_emails(tmp_path: Path) -> None:
    for email in ("jürgen@bücher.example", "用户@例子.广告", "अजय@डाटा.भारत"):
        assert create(tmp_path, email).exit_code == 0


@pytest.mark.parametrize("command", [("accounts", "disable"), ("keys", "list"), ("index", "status", "--account")])
def test_an_email_of_a_command_that_is_no_text_is_not_there(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert create(tmp_path).exit_code == 0
    for wrong in ("me\udcff@example.com", "me\x1b[31m@example.com"):
        text = said(run(*command, wrong, "--data-dir", tmp_path))
        assert text.startswith("there is no account 'me\\")
        assert text.isascii()
