"""Spool files of ended processes, sound and damaged in every way."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from reflexio import deletes
from reflexio.spool import PUBLISH, Spool, SpoolSettings
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb

PAGE = 4096


def payload(user_id: str, content: str, request_id: str) -> bytes:
    request = pb.PublishInteractionsRequest(
        user_id=user_id, request_id=request_id, interactions=[noun.InteractionData(content=content, role="User")]
    )
    return pb.PublishInteractionStreamRequest(request=request).SerializeToString()


def append(spool: Spool, name: str, user_id: str = "ada", size: int = 0) -> None:
    """A publish whose content begins with its name, or, of a name such as "delete …", a delete of the user."""
    if name.startswith("delete"):
        spool.append(name, user_id, deletes.user(user_id).message.SerializeToString(), "delete_user")
    else:
        spool.append(name, user_id, payload(user_id, name + " " + "x" * size, name), PUBLISH)


def leave(folder: Path, address: str, *names: str, user_id: str = "ada", size: int = 0) -> Path:
    """The file of a process that ended."""
    spool = Spool(SpoolSettings(folder, address, "testaccnt0"))
    for name in names:
        append(spool, name, user_id, size)
    path = Path(spool.path)
    spool.close()
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def overwrite(path: Path, at: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def _noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)


def _middle(path: Path) -> None:
    overwrite(path, path.stat().st_size // 2, _noise(20_000))


def _replaced(path: Path, by: Callable[[Path], object]) -> None:
    path.unlink()
    by(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no database": lambda path: path.write_bytes(b"no database at all" * 1000),
    "a directory": lambda path: _replaced(path, Path.mkdir),
    "a fifo": lambda path: _replaced(path, lambda name: os.mkfifo(name, 0o600)),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "truncated in the middle": lambda path: os.truncate(path, path.stat().st_size // 2),
    "truncated to 100 bytes": lambda path: os.truncate(path, 100),
    "pages in the middle": _middle,
    "pages 4 and 5": lambda path: overwrite(path, 3 * PAGE, _noise(2 * PAGE)),
    "64 bytes of the header": lambda path: overwrite(path, 24, _noise(64)),
    "64 bytes of the schema": lambda path: overwrite(path, PAGE - 300, _noise(64)),
    "the root of a table": lambda path: overwrite(path, 2 * PAGE, _noise(PAGE)),
    "64 bytes of a late page": lambda path: overwrite(path, path.stat().st_size - PAGE, _noise(64)),
    "no dead": lambda path: change(path, "DROP TABLE dead"),
    "no rows": lambda path: change(path, "DROP TABLE rows"),
    "no user_id": lambda path: change(path, "ALTER TABLE rows RENAME COLUMN user_id TO whose"),
    "an endless view": lambda path: change(
        path,
        "DROP TABLE rows",
        "CREATE VIEW rows AS WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n) SELECT id,"
        " 'r' AS request_id, 'u' AS user_id, x'' AS payload, 1 AS accepted_at, 0 AS attempts,"
        f" '{PUBLISH}' AS method FROM n",
    ),
    "a trigger": lambda path: change(
        path, "CREATE TRIGGER t AFTER DELETE ON rows BEGIN INSERT INTO meta VALUES (random(), 'x'); END"
    ),
    "a generated column": lambda path: change(
        path, "ALTER TABLE rows ADD COLUMN more TEXT GENERATED ALWAYS AS (hex(zeroblob(100))) VIRTUAL"
    ),
}
