"""Tells whether the log beside a database file is that file's: SQLite plays any that lies there, into a backup too.

`user_version`, four bytes at the file's beginning, tells states apart. What transactions see, and so what a backup
holds, has a number above 0. In the file of a database in use there is one below 0, as the rest is in the log: a copy
without it is not whole. A note beside the file has the numbers of the file that the log goes with.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
from pathlib import Path

from reflexio.supervised import say

logger = logging.getLogger(__name__)

CHECKPOINT_PAGES = 4000  # 16 MB of log: a page that many transactions change is copied into the file once
_AGAIN_PAGES = 1000  # after a checkpoint that a reader was in the way of
_WAL_HEADER, _FRAME_HEADER = 32, 24  # https://sqlite.org/fileformat2.html#walformat
_NOTE_BYTES = 64


class WrongLog(Exception):
    """The file and its log do not belong together, or one of them is missing; the text says what to do."""


def log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def note_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-note")


def has_log(path: Path) -> bool:
    """Whether there is a log beside the file with something in it."""
    try:
        return log_of(path).stat().st_size > _WAL_HEADER
    except FileNotFoundError:
        return False


def check(path: Path) -> None:
    """Raises WrongLog when SQLite would make something else of the file than it was. Nobody may have it open."""
    log, note = log_of(path), _read_note(path)
    if not path.exists() or path.stat().st_size == 0:
        if has_log(path):
            raise WrongLog(f"{path} is gone, though its log {log.name} is there: {_RESTORE}, or put both back")
        if note:
            raise WrongLog(f"{path} is gone: {_RESTORE}; to begin anew instead, delete {note_of(path)}")
        return
    number = number_in_file(path)
    if number is None:
        return  # damaged: whoever opens it says so
    if not has_log(path):
        if number < 0:
            raise WrongLog(
                f"{path} was copied without its log {log.name}, which has the rest of it: copy both, or {_RESTORE}; "
                f"if the log is lost: `reflexio-server restore --without-log {path}`"
            )
    elif (note and number not in note) or (not note and number > 0):
        raise WrongLog(
            f"the log {log} is not that of {path.name}, as when a backup was copied over the database: {_RESTORE} "
            f"(if {path.name} is the backup: `reflexio-server restore {path}`)"
        )


_RESTORE = "bring a backup in with `reflexio-server restore FILE`"


def number_in_file(path: Path) -> int | None:
    """The number in the file itself, whatever is in the log; None when it is no database.

    By SQLite, as closing a file that it has open would give up its locks.
    """
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as conn:
            return _number(conn)
    except sqlite3.Error:
        return None


def _number(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def set_number(conn: sqlite3.Connection, number: int) -> None:
    """Write the number, in a transaction of its own."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        conn.execute(f"PRAGMA user_version = {number}")
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:  # no room on the disk
            conn.execute("ROLLBACK")


def new_number() -> int:
    """A number that no other state has, for what is whole."""
    return secrets.randbelow(2**31 - 2) + 1


def _read_note(path: Path) -> set[int]:
    """The numbers that the file may have; empty when there is no note, or no whole one."""
    try:
        words = note_of(path).read_text("ascii").split()
        return {int(word) for word in words[:-1]} if words[-1:] == ["."] else set()
    except (FileNotFoundError, ValueError):
        return set()


def sync(path: Path) -> None:
    """Have a file's content on disk, or the names in a folder, which syncing the files in it need not do."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class OwnLog:
    """Keeps the note and the numbers of an open database, and does its checkpoints, as they change them.

    For the owner alone: `conn` is the one connection that writes, outside of a transaction, and may be used here.
    """

    def __init__(self, path: Path, conn: sqlite3.Connection) -> None:
        self._path = path
        self._log = log_of(path)
        self._note = os.open(note_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._due = CHECKPOINT_PAGES
        self._seen = _number(conn)
        # What the file may have on disk: a checkpoint that readers cut short, or one before a kill, was not synced.
        self._in_file = _read_note(path) | {number := number_in_file(path) or 0}
        is_sure = number < 0 < self._seen and self._in_file == {number}
        self._write_note()
        sync(path.parent)  # a note that is new must have its name on disk before the file changes
        if not is_sure:
            self.checkpoint(conn)

    def committed(self, conn: sqlite3.Connection) -> None:
        """Do a checkpoint if the log is long enough. To be called after each commit; it never raises."""
        if self._is_due():
            self.checkpoint(conn)

    def checkpoint(self, conn: sqlite3.Connection) -> None:
        """Bring the log into the file as far as readers let it. What fails is tried again later, and never raises."""
        try:
            self._write_note(self._seen)
            busy, pages, done = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._due = pages + _AGAIN_PAGES
            if not busy and pages == done:  # and synced
                self._begin(conn)
        except (OSError, sqlite3.Error) as error:
            self._due += _AGAIN_PAGES
            say(logger.warning, "the log of %s stays for now: %s", self._path.name, error)

    def emptied(self, conn: sqlite3.Connection) -> None:
        """Begin anew after all of the log was brought into the file; before it, `opens_both` must have been called."""
        with contextlib.suppress(OSError, sqlite3.Error):
            self._begin(conn)

    def opens_both(self) -> None:
        """Note that the file may be as it is, or as transactions see it: somebody is about to bring the log into it."""
        self._write_note(self._seen)

    def close(self) -> None:
        os.close(self._note)

    def _begin(self, conn: sqlite3.Connection) -> None:
        """The file is whole: say in it that it is not, from now on, and go on with another number in the log."""
        mark, number = -new_number(), new_number()
        self._in_file = {self._seen, mark}
        self._write_note()
        set_number(conn, mark)
        self._seen = mark
        busy, pages, done = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        set_number(conn, number)
        self._seen = number
        if not busy and pages == done:  # else a reader was in the way
            self._in_file = {mark}
            self._write_note()
            self._due = CHECKPOINT_PAGES

    def _is_due(self) -> bool:
        """Whether the log has the page that is due: pages of the log before this one have another salt."""
        try:
            log = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            header = os.pread(log, _WAL_HEADER, 0)
            page = int.from_bytes(header[8:12]) + _FRAME_HEADER
            return header[16:24] == os.pread(log, 8, _WAL_HEADER + (self._due - 1) * page + 8) != b""
        finally:
            os.close(log)

    def _write_note(self, *coming: int) -> None:
        """In place, in fewer bytes than a disk writes at once: it must be there before the file changes."""
        text = " ".join(map(str, (*sorted({*self._in_file, *coming}), ".")))
        os.pwrite(self._note, text.ljust(_NOTE_BYTES - 1).encode("ascii") + b"\n", 0)
        os.fsync(self._note)
