"""W10, W11 and W17: one server owns a folder, whatever became of its lock file, and others neither read nor write."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.storage.database import DATABASE_FILE, LOCK_FILE, DataDirectoryInUse, own
from tests.command import EMAIL, create, run, run_alone, said
from tests.support import PASSWORD, LocalServer, ServerProcess, create_account

pytestmark = pytest.mark.sqlite  # its lock file


@pytest.mark.parametrize("removed", ["removed", "replaced", "renamed"])
def test_a_second_server_does_not_start_when_the_lock_file_is_gone(tmp_path: Path, removed: str) -> None:
    with own(tmp_path):
        lock = tmp_path / LOCK_FILE
        if removed == "renamed":
            lock.rename(tmp_path / "old.lock")
        else:
            lock.unlink()
        if removed == "replaced":
            lock.touch()
        with pytest.raises(DataDirectoryInUse), own(tmp_path):
            pass
        assert "another reflexio-server is using" in said(run_alone("serve", "--port", "0", "--data-dir", tmp_path))
    with own(tmp_path):
        pass


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_lock_file_is_its_owners_whatever_the_mask(tmp_path: Path) -> None:
    made = run_alone("accounts", "create", EMAIL, "--data-dir", tmp_path / "d", given=PASSWORD, umask=0)
    assert made.returncode == 0
    assert {path.name: mode(path) for path in (tmp_path / "d").iterdir()} == dict.fromkeys(
        (DATABASE_FILE, f"{DATABASE_FILE}-note", LOCK_FILE), 0o600
    )
    (tmp_path / "d" / LOCK_FILE).chmod(0o666)
    with own(tmp_path / "d"):
        assert mode(tmp_path / "d" / LOCK_FILE) == 0o600


def test_a_lock_file_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).symlink_to(tmp_path / "elsewhere")
    assert f"cannot use {tmp_path / LOCK_FILE}" in said(create(tmp_path))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("bits", "warns"), [(0o777, True), (0o770, True), (0o755, False), (0o700, False)])
def test_a_folder_that_others_can_write_to_is_warned_of(
    tmp_path: Path, model_dir: Path, bits: int, warns: bool
) -> None:
    tmp_path.chmod(bits)
    server = ServerProcess(tmp_path, model_dir)
    server.terminate()
    warned = [line for line in server.lines if "can change what is in" in line]
    assert bool(warned) == warns
    assert all("WARNING" in line and f"{tmp_path}: chmod go-w it" in line for line in warned)


def test_n11_files_that_were_put_there_are_closed_to_others(tmp_path: Path, start: Callable[..., LocalServer]) -> None:
    """N11: what was restored with mode 0644 does not stay so."""
    create_account(tmp_path, EMAIL)
    (tmp_path / DATABASE_FILE).chmod(0o644)
    server = start(tmp_path)
    modes = {path.name: mode(path) for path in tmp_path.iterdir() if path.name.startswith(DATABASE_FILE)}
    assert set(modes.values()) == {0o600}, modes
    assert len(modes) == 4
    server.stop()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def none(_fd: int, _operation: int) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", none)
    for command in (("serve", "--port", "0"), ("accounts", "create", EMAIL), ("restore", tmp_path / "x")):
        text = said(run(*command, "--data-dir", tmp_path, given=PASSWORD))
        assert text.startswith(f"cannot use {tmp_path}: its file system has no locks")
        assert "--data-dir" in text


def test_a_folder_that_cannot_be_locked_itself_is_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = fcntl.flock

    def files_only(fd: int, operation: int) -> Any:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        return real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", files_only)
    with own(tmp_path), pytest.raises(DataDirectoryInUse), own(tmp_path):
        pass
