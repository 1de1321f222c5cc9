"""A store of the version before erasing keeps everything, and what had been deleted in it leaves its file."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from reflexio_server.storage import database as database_module
from reflexio_server.storage.database import DATABASE_FILE, Database
from tests.soundness import faults

pytestmark = pytest.mark.sqlite  # its first schema

DELETED = "zqdeleted long ago"
USERS, REQUESTS = 5, 40


def make_store(data_dir: Path) -> None:
    """Schema 0003 with a few rows of everything, made without overwriting what is deleted."""
    engine = create_engine(f"sqlite:///{data_dir / DATABASE_FILE}")
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0003")
    engine.dispose()
    rows: list[tuple[str, tuple[Any, ...]]] = [
        ("INSERT INTO accounts VALUES (1, 'a@example.com', 'aaaaaaaaaa', 'hash', 1, ?)", (REQUESTS * 2,)),
        ("INSERT INTO models VALUES (1, 'model', 2)", ()),
        ("INSERT INTO live_model (id, model) VALUES (1, 1)", ()),
        ("INSERT INTO images VALUES (1, ?, 'image/png', 1, 1, 3, 'png')", (bytes(32),)),
    ]
    rows += [("INSERT INTO users VALUES (?, 1, ?)", (user, f"user {user}")) for user in range(1, USERS + 1)]
    for request in range(1, REQUESTS + 1):
        user = request % USERS + 1
        rows.append(
            (
                "INSERT INTO requests VALUES (?, 1, ?, ?, 'group', 'source', '1', ?, 7, 5, ?)",
                (request, user, f"request {request}", bytes([request]) * 32, request * 2),
            )
        )
        for ref in (request * 2 - 1, request * 2):
            values = (ref, user, request, f"id {ref}", ref, f"text {ref}", bytes(32) if ref % 7 == 0 else None)
            rows += [
                ("INSERT INTO interactions VALUES (?, 1, ?, ?, ?, ?, 'User', ?, 1, '', '', NULL, ?, 5, 7, 1)", values),
                (
                    "INSERT INTO interactions_fts (rowid, owner, text) VALUES (?, ?, ?)",
                    (ref, f"a1 u{user}", f"text {ref}"),
                ),
                ("INSERT INTO vectors VALUES (?, 1, ?, ?, 1, 0, ?)", (ref, user, ref, b"\0" * 8)),
            ]
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        for statement, values in rows:
            conn.execute(statement, values)
        conn.commit()
        conn.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite have it on
        # As when full text was merged: pages that are not used any more, with what stood in them.
        conn.execute("CREATE TABLE old (text TEXT)")
        conn.execute("INSERT INTO old VALUES (?)", (DELETED * 10_000,))
        conn.commit()
        conn.execute("DROP TABLE old")
        conn.execute("DELETE FROM interactions WHERE id = 1")
        conn.execute(
            "INSERT INTO interactions SELECT 1, 1, 2, 1, 'id 1', 1, 'User', 'text 1', 1, '', '', NULL, NULL, 5, 7, 1"
        )
        conn.commit()


def contents(data_dir: Path) -> dict[str, list[Any]]:
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        columns = "id, account_id, user_ref, request_id, request_group, source, agent_version, body_hash, stored_at"
        queries = {
            "users": "SELECT id, account_id, user_id FROM users ORDER BY id",
            "requests": f"SELECT {columns}, created_at, sequence FROM requests ORDER BY id",
            "interactions": "SELECT id, user_ref, interaction_id, content, image_sha256, model FROM interactions",
            "vectors": "SELECT * FROM vectors ORDER BY id",
            "images": "SELECT account_id, sha256, media_type, width, height, size_bytes, data FROM images",
        }
        return {table: conn.execute(query).fetchall() for table, query in queries.items()}


def test_it_keeps_everything_and_overwrites_what_was_deleted(tmp_path: Path) -> None:
    make_store(tmp_path)
    before = contents(tmp_path)
    assert DELETED.encode() in (tmp_path / DATABASE_FILE).read_bytes()
    Database(tmp_path, owner=True).close()
    assert contents(tmp_path) == before
    assert len(before["requests"]) == REQUESTS
    assert faults(tmp_path) == {}
    assert DELETED.encode() not in (tmp_path / DATABASE_FILE).read_bytes()


def test_numbers_of_its_users_and_requests_are_never_used_again(tmp_path: Path) -> None:
    make_store(tmp_path)
    Database(tmp_path, owner=True).close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as conn:
        conn.execute("PRAGMA foreign_keys = OFF")
        for table, last, columns in (("users", USERS, "user_id"), ("requests", REQUESTS, "request_id")):
            conn.execute(f"DELETE FROM {table}")
            more = ", request_group, source, agent_version, body_hash, stored_at" if table == "requests" else ""
            values = ", '', '', '', x'00', 1" if more else ""
            conn.execute(f"INSERT INTO {table} (account_id, {columns}{more}) VALUES (1, 'new'{values})")
            assert conn.execute(f"SELECT id FROM {table}").fetchall() == [(last + 1,)]
