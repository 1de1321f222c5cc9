"""Stores as the version before the project's own words made them."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from reflexio_server.core.accounts import hash_password
from reflexio_server.storage import database as database_module
from reflexio_server.storage.database import DATABASE_FILE
from tests.support import PASSWORD

EMAIL = "old@example.com"
SCHEMA = "0005"


def make_store(data_dir: Path, texts: Sequence[str], model: tuple[str, dict[str, bytes]] | None = None) -> None:
    """A store of schema 0005 with an account, EMAIL, whose users "ann" and "bob" have said these texts in turn.

    Each text is a request of its own with the request_id "r<number>" and the role "User". `model`: its id, and vectors
    of some of the texts; the others wait for theirs.
    """
    data_dir.mkdir(exist_ok=True)
    engine = create_engine(f"sqlite:///{data_dir / DATABASE_FILE}")
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, SCHEMA)
    engine.dispose()
    rows: list[tuple[str, tuple[Any, ...]]] = [
        (
            "INSERT INTO accounts VALUES (1, ?, 'aaaaaaaaaa', ?, 1, ?, 0, 0, NULL)",
            (EMAIL, hash_password(PASSWORD), len(texts)),
        ),
        ("INSERT INTO users VALUES (1, 1, 'ann', 0)", ()),
        ("INSERT INTO users VALUES (2, 1, 'bob', 0)", ()),
    ]
    model_id, vectors = model or ("", {})
    if model:
        dimensions = len(next(iter(vectors.values()))) // 4
        rows += [
            ("INSERT INTO models VALUES (1, ?, ?)", (model_id, dimensions)),
            ("INSERT INTO live_model (id, model) VALUES (1, 1)", ()),
        ]
    for ref, said in enumerate(texts, start=1):
        user = 1 + (ref - 1) % 2
        rows += [
            (
                "INSERT INTO requests VALUES (?, 1, ?, ?, '', '', '', ?, 7, 5, ?, NULL, NULL)",
                (ref, user, f"r{ref}", ref.to_bytes(32), ref),
            ),
            (
                "INSERT INTO interactions VALUES (?, 1, ?, ?, ?, ?, 'User', ?, 1, '', '', NULL, NULL, 5, 7, ?)",
                (ref, user, ref, f"id {ref}", ref, said, 1 if said in vectors else None),
            ),
            ("INSERT INTO interactions_fts (rowid, owner, text) VALUES (?, ?, ?)", (ref, f"a1 u{user}", said)),
        ]
        if said in vectors:
            rows.append(("INSERT INTO vectors VALUES (?, 1, ?, ?, 1, 0, ?)", (ref, user, ref, vectors[said])))
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        conn.execute("PRAGMA journal_mode = WAL")
        for statement, values in rows:
            conn.execute(statement, values)
        conn.commit()
