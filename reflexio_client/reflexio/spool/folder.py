"""Where spool files lie, what they are called, and the locks that say who owns them."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reflexio import checks
from reflexio.ids import uuid7
from reflexio.spool import fork

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

SUFFIX = ".spool"
LOCK_SUFFIX = ".lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
MAX_ITEMS = 1_000_000
MAX_BYTES = 1024 * 1024 * 1024
Durability = Literal["process", "power"]


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """Where and how durably one account's requests to one server are kept.

    Attributes:
        folder: of the spool files; made when it is needed.
        address: the server's URL.
        tag: the public tag of the account.
        durability: what a request survives once publishing it has returned: the end of the process, or of the power.
        max_items: requests that may wait, those taken over from ended processes included.
        max_bytes: size of all that may wait.
    """

    folder: Path
    address: str
    tag: str
    durability: Durability = "process"
    max_items: int = MAX_ITEMS
    max_bytes: int = MAX_BYTES

    @property
    def prefix(self) -> str:
        """How the names of all spool files of this server address and account begin."""
        # A tag comes out of a key that somebody typed: only what is harmless in a file name goes in as it is.
        tag = self.tag if self.tag.isalnum() else f"x{_hash(self.tag)}"
        return f"{_hash(self.address)}-{tag}-"

    def new_path(self) -> Path:
        """A name that no other process uses; names sort by the time they were made."""
        return self.folder / f"{self.prefix}{uuid7().replace('-', '')}-{os.getpid()}{SUFFIX}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def default_folder() -> Path:
    """REFLEXIO_SPOOL_DIR, else the platform's folder for the state of programs; absolute unless no home is known.

    Raises InvalidArgumentError: REFLEXIO_SPOOL_DIR cannot be a folder.
    """
    if chosen := os.environ.get("REFLEXIO_SPOOL_DIR"):
        return checks.folder("REFLEXIO_SPOOL_DIR", chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return checks.folder("the folder for the state of programs", base) / "reflexio" / "spool"


def check_folder(folder: Path) -> None:
    """Raise OSError where it is under the home of a user who has none: a folder named `~` is not what was meant."""
    if not folder.is_absolute():
        raise OSError(f"no home folder is known for {folder.parts[0]}")


class ForeignError(OSError):
    """It is not to be trusted: others than this user, or root, have made it or can write it."""


def check_private(folder: Path) -> None:
    """Raise ForeignError where others can put files in the folder: what lies there goes out with this user's key."""
    if sys.platform == "win32":
        return
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0):
        raise ForeignError(f"{folder} belongs to user {found.st_uid}, not to user {os.geteuid()} of this process")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise ForeignError(f"everybody can write in {folder}: chmod o-w it, or give another folder")


def check_own(path: Path, *, to_read: bool = False) -> None:
    """Raise ForeignError unless the spool file, and each file SQLite keeps beside it, is this user's own alone.

    `to_read`: root may look at the files of others, too.
    """
    users = {os.geteuid()} if sys.platform != "win32" else set()
    for name in (path, *(Path(f"{path}{suffix}") for suffix in ("-wal", "-shm", "-journal"))):
        try:
            found = name.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode):
            raise ForeignError(f"{name} is no regular file")
        if sys.platform == "win32":
            continue
        if found.st_uid not in users and not (to_read and 0 in users):
            raise ForeignError(f"{name} belongs to user {found.st_uid}, not to user {os.geteuid()} of this process")
        if found.st_nlink > 1:
            raise ForeignError(f"{name} has another name too")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ForeignError(f"others can write {name}")


def make_folder(folder: Path) -> None:
    """Make the folder for this user's eyes only; an existing one keeps its mode. Raises ForeignError."""
    check_folder(folder)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    check_private(folder)


def spool_paths(folder: Path, prefix: str = "") -> list[Path]:
    """The spool files in a folder, the oldest of each account first."""
    try:
        check_folder(folder)
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.startswith(prefix) and e.name.endswith(SUFFIX)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


class FileLock:
    """The right to a spool file: a lock on the file beside it, which the system lifts when its holder is gone.

    The lock belongs to the open file, which a forked child shares: the child closes its copy, and never unlocks.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @classmethod
    def take(cls, spool_path: Path) -> "FileLock | None":
        """The lock of a spool file; None while somebody else has it. Raises OSError where locks do not work."""
        path = spool_path.with_suffix(LOCK_SUFFIX)
        descriptor = fork.open_private(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o600)
        try:
            if _try_lock(descriptor):
                return cls(path, descriptor)
        except BaseException:
            fork.close_private(descriptor)
            raise
        fork.close_private(descriptor)
        return None

    def release(self, *, remove: bool) -> None:
        """Let others have it; `remove` when there is nothing left to own."""
        if remove and sys.platform != "win32":
            self._path.unlink(missing_ok=True)
        fork.close_private(self._descriptor)
        if remove and sys.platform == "win32":  # no open file can be removed there
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _try_lock(descriptor: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def has_orphans(settings: SpoolSettings) -> bool:
    """There is a spool file of this address and account that no living process owns."""
    return any(True for _ in _free(settings))


def _free(settings: SpoolSettings) -> Iterator[Path]:
    for path in spool_paths(settings.folder, settings.prefix):
        try:
            lock = FileLock.take(path)
        except OSError:
            continue
        if lock is not None:
            lock.release(remove=not path.exists())
            yield path
