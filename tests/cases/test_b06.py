"""B6 and B14: what the disk, its permissions or a limit refuses at the start is a line that says what to do."""

import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_server import process
from reflexio_server.storage.database import DATABASE_FILE
from tests.command import EMAIL, create, run, said
from tests.support import PASSWORD

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("serve", "--port", "0"),
    ("accounts", "list"),
    ("accounts", "create", "other@example.com"),
    ("index", "status"),
)


@pytest.fixture
def reached_by_all() -> Iterator[Path]:
    """A folder that every user gets to, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.sqlite
@pytest.mark.parametrize("command", COMMANDS[1:], ids=" ".join)  # serve would look for its model first
@pytest.mark.parametrize("what", ["the database", "its log", "the folder"])
def test_a_file_that_may_not_be_used(
    reached_by_all: Path, model_dir: Path, command: tuple[str, ...], what: str
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make another's file")
    tmp_path = reached_by_all
    assert create(tmp_path).exit_code == 0
    log = tmp_path / f"{DATABASE_FILE}-wal"
    if what == "its log":
        log.write_bytes(b"")
    for path in (tmp_path / DATABASE_FILE, log):
        if path.exists():
            path.chmod(0o600)
            os.chown(path, 0 if what != "the folder" else 65534, 0)
    tmp_path.chmod(0o777 if what != "the folder" else 0o555)
    (tmp_path / "server.lock").unlink()
    (tmp_path / f"{DATABASE_FILE}-note").unlink()
    os.seteuid(65534)
    try:
        text = said(run(*command, "--data-dir", tmp_path, given=PASSWORD))
    finally:
        os.seteuid(0)
    assert str(tmp_path) in text
    assert "cannot use" in text
    assert "check" in text


@pytest.mark.sqlite
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A file that may not grow (RLIMIT_FSIZE) is to SQLite what a full disk is."""
    assert create(tmp_path).exit_code == 0
    code = """if True:
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        from reflexio_server.cli.main import main
        main(sys.argv[1:])
    """
    for command in COMMANDS:
        done = subprocess.run(
            [sys.executable, "-c", code, *command, "--data-dir", str(tmp_path)],
            input=PASSWORD,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        lines = [line for line in done.stderr.splitlines() if not line.startswith("20")]
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith(f"Error: cannot use {tmp_path}")
        assert "disk" in lines[0]
    with sqlite3.connect(tmp_path / DATABASE_FILE) as conn:
        assert conn.execute("SELECT email FROM accounts").fetchall() == [(EMAIL,)]
    conn.close()


@pytest.mark.parametrize("refuses", [ValueError("not allowed to raise maximum limit"), OSError(22, "Invalid argument")])
def test_a_limit_that_cannot_be_raised_is_left(monkeypatch: pytest.MonkeyPatch, refuses: Exception) -> None:
    """B14: macOS refuses more than 10,240, and others anything."""
    asked: list[int] = []

    def limited(_which: int, limits: tuple[int, int]) -> None:
        asked.append(limits[0])
        if limits[0] > 10_240:
            raise refuses

    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", limited)
    process._raise_open_files_limit()
    assert asked == [65_536, 10_240]

    def never(*_given: Any) -> None:
        raise refuses

    monkeypatch.setattr(resource, "setrlimit", never)
    process._raise_open_files_limit()
