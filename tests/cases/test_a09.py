"""A9: spool folders and files that others made, or can write, are left alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import reflexio
from tests.cases.spool_files import leave
from tests.client.scripted_server import KEY, ScriptedServer

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(os.geteuid() != 0, reason="to make files of another user takes root"),
]


def _log_of_another(path: Path) -> None:
    Path(f"{path}-wal").write_bytes(b"")
    os.chown(f"{path}-wal", 12345, 12345)


def _lock_that_is_a_link(path: Path) -> None:
    path.with_suffix(".lock").unlink(missing_ok=True)
    path.with_suffix(".lock").symlink_to(path.parent.parent / "made")


def _linked(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "a file of another": lambda path: os.chown(path, 12345, 12345),
    "a file that all can write": lambda path: path.chmod(0o666),
    "a link": _linked,
    "a second name": lambda path: os.link(path, path.parent.parent / "second"),
    "a log of another": _log_of_another,
    "a log that is a link": lambda path: os.symlink("/dev/null", f"{path}-wal"),
    "a lock that is a link": _lock_that_is_a_link,
    "a folder of another": lambda path: os.chown(path.parent, 12345, 12345),
    "a folder that all can write": lambda path: path.parent.chmod(0o777),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_others_can_have_made_goes_nowhere(
    scripted: ScriptedServer, spool_dir: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = leave(spool_dir, scripted.url, "planted", "delete all", user_id="victim")
    FOREIGN[kind](path)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        client.publish_interaction("victim", [{"content": "own"}]).wait(20)
        client.flush(5)
        assert client.stats().durable == (not kind.startswith("a folder"))
    assert scripted.stored_contents() == ["own"]
    assert scripted.count("DeleteUser") == 0
    assert os.path.lexists(path)
    assert not (spool_dir.parent / "made").exists()
    assert 1 <= sum("spool" in record.getMessage() for record in caplog.records) <= 2


def test_a_folder_with_the_sticky_bit_will_do(scripted: ScriptedServer, tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    with reflexio.ReflexioClient(KEY, scripted.url, spool_dir=folder) as client:
        assert client.publish_interaction("ada", [{"content": "x"}]).wait(20).success
        assert client.stats().durable
