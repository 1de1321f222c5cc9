"""F12, F13 and F16, the client's side: a relative folder, `~`, and no home at all."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import reflexio
from reflexio.errors import ConfigurationError
from tests.client.scripted_server import KEY, ScriptedServer, eventually

NOWHERE = "http://127.0.0.1:1/"
PUBLISH = """
import json, sys, warnings
import reflexio
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    client = reflexio.ReflexioClient(sys.argv[1], sys.argv[2])
    receipt = client.publish_interaction("ada", [{"content": "x"}])
    result = client.flush(20)
stats = client.stats()
print(json.dumps([result.pending, stats.durable, stats.spool_path, [str(w.message) for w in seen]]))
"""


def run(
    arguments: Sequence[str], cwd: Path, prefix: Sequence[str] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, *arguments],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def published(server: ScriptedServer, cwd: Path, prefix: Sequence[str] = (), **environment: str) -> Any:
    done = run(["-c", PUBLISH, KEY, server.url], cwd, prefix, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def nobody() -> list[str]:
    """What runs a command as a user of whom nothing is known."""
    prefix = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    if not allowed and os.environ.get("REFLEXIO_TEST_ALL") != "1":
        pytest.skip("this system allows no user namespaces")
    return prefix


def test_a_relative_folder_stays_the_same_folder(
    scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = reflexio.ReflexioClient(KEY, scripted.url, spool_dir="here/it/is")
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", "there")
    named = reflexio.ReflexioClient(KEY, scripted.url)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for client, folder in ((given, tmp_path / "here/it/is"), (named, tmp_path / "there")):
        scripted.stop()
        for _ in range(300):
            client.publish_interaction("u", [{"content": "x" * 60_000}])
        path = Path(client.stats().spool_path)
        assert path.parent == folder
        monkeypatch.chdir("/")
        scripted.start()
        assert client.flush(30).delivered
        eventually(lambda: os.path.getsize(f"{path}-wal") <= 1024 * 1024)  # noqa: B023 - the log is folded back
        client.close()
        assert os.listdir(folder) == []
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize("spelling", ["~/s", "~//s/../s", "s"])
def test_a_home_is_a_home_in_every_variable(
    scripted: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    clients = []
    for variable in ("REFLEXIO_SPOOL_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv("REFLEXIO_SPOOL_DIR", raising=False)
        monkeypatch.setenv(variable, spelling)
        clients.append(reflexio.ReflexioClient(KEY, scripted.url))
    clients.append(reflexio.ReflexioClient(KEY, scripted.url, spool_dir=spelling))
    clients.append(reflexio.ReflexioClient(KEY, scripted.url, spool_dir=Path(spelling)))
    monkeypatch.chdir("/")
    for client, folder in zip(clients, ("s", "s/reflexio/spool", "s", "s"), strict=True):
        client.publish_interaction("u", [{"content": "x"}])
        assert Path(client.stats().spool_path).parent.resolve() == home / folder
        client.close()
    assert os.listdir(home) == ["s"]


def test_certificates_are_found_in_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")
    monkeypatch.setenv("REFLEXIO_CA_CERT", "~/ca.pem")
    reflexio.ReflexioClient(KEY, "https://127.0.0.1:1/").close()
    monkeypatch.setenv("REFLEXIO_CA_CERT", "~/other.pem")
    with pytest.raises(
        ConfigurationError, match=r"cannot read ~/other\.pem, which REFLEXIO_CA_CERT names: No such file"
    ):
        reflexio.ReflexioClient(KEY, "https://127.0.0.1:1/")


@pytest.mark.parametrize("bad", [5, object(), ["x"], "a\0b", b"a\0b"], ids=repr)
def test_what_is_no_folder_is_refused_at_once(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="spool_dir"):
        reflexio.ReflexioClient(KEY, NOWHERE, spool_dir=bad)


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    text = f"import os; os.mkdir({str(gone)!r}); os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); import reflexio\n"
    made = "reflexio.ReflexioClient('', 'http://127.0.0.1:1/', spool_dir={!r}); print('made')"
    done = run(["-c", text + made.format("/tmp/x")], tmp_path, HOME="/")
    assert done.stdout == "made\n", done.stderr
    done = run(["-c", text + made.format("spool")], tmp_path, HOME="/")
    assert "ConfigurationError: spool_dir is relative, and the current folder is gone" in done.stderr


def test_without_a_home_requests_are_in_memory(scripted: ScriptedServer, tmp_path: Path, nobody: list[str]) -> None:
    """F13: where no disk can be written, requests are in memory only, with a warning."""
    for environment in ({}, {"REFLEXIO_SPOOL_DIR": "~/s"}, {"XDG_STATE_HOME": "~/s"}, {"REFLEXIO_SPOOL_DIR": "~no/s"}):
        pending, durable, path, warned = published(scripted, tmp_path, nobody, **environment)
        assert (pending, durable, path) == (0, False, "")
        assert len(warned) == 1
        assert "no home folder is known for ~" in warned[0]
        assert "kept in memory only" in warned[0]
        for command in ("status", "flush", "dead", "export"):
            said = run(["-m", "reflexio.spool", command], tmp_path, nobody, **environment)
            assert said.returncode == 2
            assert said.stdout == ""
            assert said.stderr.startswith("reflexio: there is no folder of spool files: no home folder is known for ~")
            assert said.stderr.count("\n") == 1
    folder = tmp_path / "given"
    folder.mkdir()
    folder.chmod(0o1777)
    for environment in ({"REFLEXIO_SPOOL_DIR": str(folder)}, {"HOME": str(folder)}, {"XDG_STATE_HOME": str(folder)}):
        pending, durable, path, warned = published(scripted, tmp_path, nobody, **environment)
        assert (pending, durable, warned) == (0, True, [])
        assert path.startswith(str(folder))
    assert sorted(os.listdir(tmp_path)) == ["given"]


def test_a_home_that_cannot_be_written_or_is_not_there(
    scripted: ScriptedServer, tmp_path: Path, nobody: list[str]
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for home in ("/proc/none", str(closed), str(closed / "not there"), "/dev/null"):
        pending, durable, path, warned = published(scripted, tmp_path, nobody, HOME=home)
        assert (pending, durable, path, len(warned)) == (0, False, "", 1)
        assert "kept in memory only" in warned[0]
        said = run(["-m", "reflexio.spool", "status"], tmp_path, nobody, HOME=home)
        assert (said.returncode, said.stderr) == (0, "")
        assert "nothing waits in " in said.stdout
