"""Copies a database while it is used, and puts such a copy in its place. Neither changes anything until it is whole."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from reflexio_server.storage import own_log
from reflexio_server.storage.own_log import WrongLog, has_log, log_of, note_of, sync

_PAGES_AT_ONCE = 2000  # 8 MB, after which the progress is told
Show = Callable[[int, int], None]
"""Is told how many pages of how many are copied."""


class CopyRefused(Exception):
    """The copy was not made; the text says why and what to do."""


def back_up(database: Path, file: Path, *, in_use: bool, force: bool, show: Show) -> None:
    """Copy the database, as it is at this moment, into a new file that only its owner may read.

    in_use: a server runs on it; else it is first looked whether its log is its own.

    Raises CopyRefused: the file is there already, unless `force` says to replace it; or the database is damaged.
    """
    if not file.parent.is_dir():
        raise CopyRefused(f"there is no folder {file.parent} for {file.name}")
    if file.parent.samefile(database.parent) and file.name.startswith(database.name):
        raise CopyRefused(f"{file} is, or may be, a file of the server's own: choose another name")
    if file.exists() and not force:
        raise _there(file)
    if not in_use:
        _check(database)
    with _beside(file) as made:
        _copy(database, made, immutable=False, show=show)
        _must_be_sound(made, database, "quick_check")
        if force:
            os.replace(made, file)
        else:
            _name(made, file)
    sync(file.parent)


def restore(file: Path, database: Path, *, without_log: bool, show: Show) -> Path | None:
    """Put a copy of `file` in the place of the database, which must not be in use; where the old one is now.

    without_log: take a file as it is, though the rest of it would be in a log.

    Raises CopyRefused: the file is no whole database, or a newer version's. Then nothing has changed.
    """
    if not file.is_file():
        raise CopyRefused(f"there is no file {file}")
    immutable = not has_log(file)
    try:
        own_log.check(file)
    except WrongLog as error:
        number = own_log.number_in_file(file) or 0
        if number < 0 and not without_log:
            raise CopyRefused(str(error)) from None
        immutable = True
    with _beside(database) as made:
        _copy(file, made, immutable=immutable, show=show)
        _must_be_sound(made, file, "integrity_check")
        _must_be_known(made, file)
        aside = _set_aside(database)
        os.replace(made, database)
    database.with_name(f"{database.name}-shm").unlink(missing_ok=True)
    sync(database.parent)
    return aside


def _there(file: Path) -> CopyRefused:
    return CopyRefused(f"{file} is there already: choose another name, or say --force to replace it")


def _name(made: Path, file: Path) -> None:
    """Give it this name, which may have been taken meanwhile."""
    try:
        os.link(made, file)
    except FileExistsError:
        raise _there(file) from None
    except OSError:  # a file system without links
        made.rename(file)


def _check(database: Path) -> None:
    try:
        own_log.check(database)
    except WrongLog as error:
        raise CopyRefused(str(error)) from None


@contextlib.contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """A new file in the same folder, which is gone at the end if it was not renamed."""
    made = file.with_name(f".{file.name}.{os.getpid()}.part")
    os.close(os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        yield made
    finally:
        for rest in ("", "-journal", "-wal", "-shm"):
            made.with_name(made.name + rest).unlink(missing_ok=True)


def _copy(source: Path, made: Path, *, immutable: bool, show: Show) -> None:
    """Copy a database, its log included unless it is `immutable`, into one file without a log."""

    def told(_status: int, remaining: int, total: int) -> None:
        show(total - remaining, total)

    uri = source.absolute().as_uri() + ("?immutable=1" if immutable else "?mode=ro")
    try:
        with (
            contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as reads,
            contextlib.closing(sqlite3.connect(made, isolation_level=None)) as writes,
        ):
            reads.execute("BEGIN")
            reads.execute("SELECT count(*) FROM sqlite_master").fetchone()  # holds this moment, however much is written
            reads.backup(writes, pages=_PAGES_AT_ONCE, progress=told)
            writes.execute("PRAGMA journal_mode = DELETE")
            own_log.set_number(writes, own_log.new_number())
    except sqlite3.Error as error:
        raise CopyRefused(f"cannot copy {source}: {error}") from None
    sync(made)


def _must_be_sound(made: Path, source: Path, check: str) -> None:
    try:
        with contextlib.closing(sqlite3.connect(made)) as conn:
            (found,) = conn.execute(f"PRAGMA {check}(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise CopyRefused(f"{source} is damaged ({found.splitlines()[0]}): use another, nothing was changed")


def _must_be_known(made: Path, source: Path) -> None:
    try:
        with contextlib.closing(sqlite3.connect(made)) as conn:
            (schema,) = conn.execute("SELECT version_num FROM alembic_version").fetchone()
            conn.execute("SELECT count(*) FROM accounts").fetchone()
    except (sqlite3.Error, TypeError):
        raise CopyRefused(f"{source} is no database of a Reflexio server: nothing was changed") from None
    from reflexio_server.storage.migrating import known_schemas

    if schema not in known_schemas():
        raise CopyRefused(f"{source} has schema {schema}, which this version does not know: a newer one made it")


def _set_aside(database: Path) -> Path | None:
    """Give the old database another name, with its log and note, so that it can be restored in turn.

    The log goes first: without it, a file that needs it is refused, and one that does not is whole. The database itself
    stays in its place until the new one is put there.
    """
    if not database.exists() and not has_log(database):
        return None
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = database.with_name(f"{database.name}.before-{moment}")
    for kept, name in ((log_of(database), log_of(aside)), (note_of(database), note_of(aside))):
        with contextlib.suppress(FileNotFoundError):
            kept.rename(name)
    if not database.exists():
        return log_of(aside)
    try:
        os.link(database, aside)
    except OSError:  # a file system without links
        database.rename(aside)
    aside.chmod(0o600)
    return aside
