"""Looking into spool files without owning them, for the command."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reflexio.spool.database import PUBLISH, SCHEMA_VERSION, DamagedError, NewerVersionError, check_tables, version_of
from reflexio.spool.folder import FileLock, check_own
from reflexio.spool.reading import as_moment, as_text


@dataclass(slots=True)
class Overview:
    """A spool file in short.

    Attributes:
        path: of the file.
        owned: a living process delivers it.
        pid: of the process that made it.
        address: the server's URL.
        tag: the public tag of the account.
        rows: requests that wait.
        deletes: how many of them delete.
        size: their bytes.
        oldest: when the first of them was accepted, in Unix microseconds; 0 when there is none.
        dead: refused requests.
    """

    path: Path
    owned: bool
    pid: str = ""
    address: str = ""
    tag: str = ""
    rows: int = 0
    deletes: int = 0
    size: int = 0
    oldest: int = 0
    dead: int = 0


@dataclass(slots=True)
class Dead:
    """A refused request: its id, whose it is, why and when (Unix microseconds) it was refused, and what it was."""

    request_id: str
    user_id: str
    reason: str
    field: str
    message: str
    refused_at: int
    method: str
    payload: bytes


def overview(path: Path) -> Overview:
    """The file in short; raises sqlite3.Error, OSError or NewerVersionError when it cannot be read."""
    with _opened(path) as (connection, method, owned):
        found = connection.execute("SELECT name, value FROM meta").fetchall()
        meta = {as_text(name): as_text(value) for name, value in found}
        rows, deletes, size, oldest = connection.execute(
            f"SELECT count(*), count(nullif({method}, ?)), coalesce(sum(length(payload)), 0),"
            " coalesce(min(accepted_at), 0) FROM rows",
            (PUBLISH,),
        ).fetchone()
        (dead,) = connection.execute("SELECT count(*) FROM dead").fetchone()
        names = (meta.get("pid", ""), meta.get("address", ""), meta.get("tag", ""))
        return Overview(path, owned, *names, rows, deletes, size, as_moment(oldest), dead)


def dead(path: Path) -> Iterator[Dead]:
    """The refused requests of a file, the oldest first."""
    with _opened(path) as (connection, method, _):
        columns = f"request_id, user_id, reason, field, message, refused_at, {method}, payload"
        for *texts, refused_at, how, payload in connection.execute(f"SELECT {columns} FROM dead ORDER BY id"):
            request_id, user_id, reason, field, message = map(as_text, texts)
            when, method_of = as_moment(refused_at), as_text(how)
            yield Dead(request_id, user_id, reason, field, message, when, method_of, _payload(payload))


def waiting(path: Path) -> Iterator[tuple[str, bytes]]:
    """What waits, in its order: the method that took it and its message."""
    with _opened(path) as (connection, method, _):
        for how, payload in connection.execute(f"SELECT {method}, payload FROM rows ORDER BY id"):
            yield as_text(how), _payload(payload)


def _payload(value: object) -> bytes:
    return value if isinstance(value, bytes) else as_text(value).encode()


@contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, str, bool]]:
    """A connection, the method of a row in SQL (version 1 knew publishes only), and whether somebody owns the file."""
    check_own(path, to_read=True)
    lock = FileLock.take(path)
    try:
        # Nobody else may adopt it while it is looked at; a living owner goes on beside a reader that never writes.
        mode = "ro" if lock is None else "rw"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=5.0)) as connection:
            version = version_of(connection)
            if version > SCHEMA_VERSION:
                raise NewerVersionError(f"{path} was written by a newer version of reflexio")
            if not version:
                raise DamagedError(f"{path} holds nothing: its process died while making it")
            check_tables(connection, version)
            yield connection, "method" if version > 1 else f"'{PUBLISH}'", lock is None
    finally:
        if lock is not None:
            lock.release(remove=not path.exists())
