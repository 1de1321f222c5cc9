import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import reflexio
from reflexio.cli.spool import main
from tests.client.scripted_server import KEY, ScriptedServer, make_key, verdict

NOWHERE = "http://127.0.0.1:1/"


def leave(number: int, url: str = NOWHERE, key: str = KEY) -> None:
    client = reflexio.ReflexioClient(key, url)
    for i in range(number):
        client.publish_interaction("ada", [{"content": f"content {i}"}], request_id=f"r{i}")
    client.close(0)


def test_status(capsys: pytest.CaptureFixture[str]) -> None:
    leave(3)
    living = reflexio.ReflexioClient(make_key("otheraccnt"), NOWHERE)
    living.publish_interaction("bob", [{"content": "x"}])
    capsys.readouterr()
    assert main(["status"]) == 0
    said = capsys.readouterr().out
    assert "3 waiting" in said
    assert f"account testaccnt0 at {NOWHERE}; orphan" in said
    assert f"account otheraccnt at {NOWHERE}; process {os.getpid()} delivers it" in said
    living.close(0)


def test_an_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "dead", "export"):
        assert main(["--dir", str(tmp_path / "none"), command]) == 0
    assert "nothing waits" in capsys.readouterr().out


def test_flush_delivers_what_is_of_the_keys_account(
    server: ScriptedServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.stop()
    leave(3, server.url)
    leave(2, server.url, make_key("otheraccnt"))
    assert main(["flush"]) == 2
    assert "REFLEXIO_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    assert main(["flush", "--timeout", "0.5"]) == 1
    assert "3 left" in capsys.readouterr().out
    server.start()
    assert main(["flush"]) == 0
    said = capsys.readouterr()
    assert "3 delivered" in said.out
    assert "account otheraccnt has requests here too" in said.err
    assert len(server.requests) == 3
    assert len([name for name in os.listdir(spool_dir) if name.endswith(".spool")]) == 1


def test_dead_and_export(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.script("PublishInteractionStream", verdict(0, 0, (0, "INVALID_FIELD")))
    leave_one = reflexio.ReflexioClient(KEY, server.url)
    leave_one.publish_interaction("ada", [{"content": "bad"}], request_id="refused")
    leave_one.flush(30)
    leave_one.close()
    leave(2)
    capsys.readouterr()
    assert main(["dead"]) == 0
    assert "refused  user ada  INVALID_FIELD: interactions: refused 0" in capsys.readouterr().out
    assert main(["export"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["request_id"] for line in lines] == ["r0", "r1"]
    assert lines[0]["interactions"][0]["content"] == "content 0"
    assert main(["export", "--dead"]) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == "refused"


def test_it_runs_as_a_module_and_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "reflexio.spool", "--help"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert all(command in done.stdout for command in ("status", "flush", "dead", "export"))
