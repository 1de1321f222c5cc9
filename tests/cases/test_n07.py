"""N7: what waits for an address that is gone is said, sent to another, and exported as it can be given again."""

import base64
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import reflexio
from reflexio.cli.spool import main
from reflexio.spool import moved
from reflexio.v1 import auth_pb2
from reflexio.v1 import auth_service_pb2 as auth
from tests.client.scripted_server import KEY, ScriptedServer, answer, make_key
from tests.support import LocalServer

OLD, OLDER = "http://127.0.0.1:1/", "http://127.0.0.1:2/"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    moved._said.clear()
    yield
    moved._said.clear()


def leave(url: str, *ids: str, key: str = KEY, delete: str = "") -> None:
    client = reflexio.ReflexioClient(key, url)
    for request_id in ids:
        client.publish_interaction("ada", [{"content": request_id}], request_id=request_id)
    if delete:
        client.delete_user(delete)
    client.close(0)


def test_it_is_sent_to_the_new_address(scripted: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    leave(OLD, "a", "b", delete="bob")
    leave(OLDER, "c")
    assert main(["flush", "--to", scripted.url, "--yes", "--timeout", "30"]) == 0
    assert sorted(scripted.requests) == ["a", "b", "c"]
    assert scripted.count("DeleteUser") == 1
    said = capsys.readouterr()
    assert "4 delivered" in said.out
    assert f"go to {scripted.url}, not to {OLD}" in said.err
    assert main(["status"]) == 0
    assert "waiting" not in capsys.readouterr().out.replace("0 waiting", "")


def test_only_what_was_for_one_address(scripted: ScriptedServer) -> None:
    leave(OLD, "a")
    leave(OLDER, "c")
    assert main(["flush", "--to", scripted.url, "--from", "http://127.0.0.1:2", "--yes"]) == 0
    assert list(scripted.requests) == ["c"]


def test_nothing_goes_without_a_yes_or_to_another_account(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leave(OLD, "a")
    capsys.readouterr()
    assert main(["flush", "--to", scripted.url]) == 2
    assert "say --yes if this is right" in capsys.readouterr().err
    other = auth.WhoAmIResponse(account=auth_pb2.Account(email="a@b.c", tag="otheraccnt"))
    scripted.always("WhoAmI", answer(other))
    assert main(["flush", "--to", scripted.url, "--yes"]) == 2
    said = capsys.readouterr().err
    assert "here the key is account otheraccnt's, not testaccnt0's" in said
    assert "`export`" in said
    scripted.always("WhoAmI", None)
    monkeypatch.setenv("REFLEXIO_API_KEY", make_key("otheraccnt"))
    assert main(["flush", "--to", scripted.url, "--yes"]) == 1
    assert "account testaccnt0 has requests here too" in capsys.readouterr().err
    for wrong in (["--to", "ada:secret@host"], ["--to", "nowhere"], ["--from", OLD]):
        assert main(["flush", *wrong, "--yes"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert "secret" not in said
    assert scripted.requests == {}


def test_a_server_that_does_not_know_the_key(server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    leave(OLD, "a")
    assert main(["flush", "--to", f"http://{server.address}/", "--yes"]) == 2
    said = capsys.readouterr().err
    assert "this server does not know the key" in said
    assert "`export`" in said


def test_a_client_says_once_what_waits_elsewhere(scripted: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    leave(OLD, "a", "b")
    leave(OLDER, "c", key=make_key("otheraccnt"))
    caplog.set_level(logging.WARNING, "reflexio")
    caplog.clear()
    for _ in range(3):
        reflexio.ReflexioClient(KEY, scripted.url).close()
    said = [r.getMessage() for r in caplog.records if "wait in" in r.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("2 requests of this account wait in ")
    assert f"for {OLD}, not for {scripted.url}" in said[0]
    assert f"flush --to {scripted.url}`" in said[0]


def test_a_dead_address_keeps_no_other_waiting(scripted: ScriptedServer) -> None:
    leave(OLD, "a")
    scripted.stop()
    leave(scripted.url, "b")
    scripted.start()
    began = time.monotonic()
    command = [sys.executable, "-m", "reflexio.spool", "flush", "--timeout", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert 7 <= time.monotonic() - began < 40
    assert list(scripted.requests) == ["b"]
    lines = done.stdout.splitlines()
    assert lines[0] == f"{scripted.url}: 1 delivered"
    assert lines[1].startswith(f"{OLD}: 0 delivered, 1 left: ")
    assert f"{OLD}: 1 wait, for up to " in done.stderr


def random_request(chance: random.Random) -> dict[str, Any]:
    texts = ["", "plain", "ünï 😀 \x1b\n\u2028 \"'", "x" * 5000]

    def interaction() -> dict[str, Any]:
        made: dict[str, Any] = {
            "role": chance.choice(["", "Agent", "ä"]),
            "content": chance.choice(texts[1:]),
            "user_action": chance.choice([None, "NONE", "click", "SCROLL", "TYPE"]),
            "user_action_description": chance.choice(texts),
            "interacted_image_url": chance.choice(["", "https://x.example/?a=b#c"]),
            "created_at": chance.choice([None, 0, 1_700_000_000.123456, -5.5, -62_135_596_800, 253_402_300_799]),
        }
        if chance.random() < 0.4:
            made["image_encoding"] = base64.b64encode(chance.randbytes(chance.randrange(1, 3000))).decode()
        return made

    return {
        "user_id": chance.choice(texts[1:]),
        "interactions": [interaction() for _ in range(chance.randrange(1, 5))],
        "request_group": chance.choice([None, *texts]),
        "source": chance.choice(texts),
        "agent_version": chance.choice(texts),
        "request_id": chance.choice([None, f"r{chance.random()}"]),
    }


def test_what_is_exported_can_be_given_again(
    scripted: ScriptedServer, spool_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    client = reflexio.ReflexioClient(KEY, OLD)
    for _ in range(60):
        client.publish_interaction(**random_request(chance))
    client.delete_user("bob")
    client.close(0)
    capsys.readouterr()
    assert main(["export"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1] == {"delete_user": {"user_id": "bob"}}
    other = reflexio.ReflexioClient(KEY, scripted.url, spool_dir=spool_dir / "other")
    result = other.publish_many(lines)
    assert [(r.index, "delete_user" in r.message) for r in result.rejections] == [(60, True)]
    given, scripted.requests = dict(scripted.requests), {}
    assert main(["flush", "--to", scripted.url, "--yes"]) == 0
    assert scripted.requests == given
    assert len(given) == 60


def test_the_prefix_of_the_contract_is_understood(scripted_client: reflexio.ReflexioClient) -> None:
    """Exports of before have USER_ACTION_NONE, which is the contract's name."""
    for action in ("USER_ACTION_NONE", "user_action_click"):
        item = {"user_id": "u", "interactions": [{"content": "x", "user_action": action}]}
        assert scripted_client.publish_many([item]).requests.stored == 1
    assert os.environ["REFLEXIO_API_KEY"] == KEY
