"""What holds in every database at any moment, whatever was stored and erased, and whenever a server was killed."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from reflexio_server.storage.database import DATABASE_FILE
from tools.chroma_run import ChromaRun

Rows = Callable[[str], list[tuple[Any, ...]]]
"""Puts a query to a database."""

# Each finds what must not be.
FAULTS = {
    "a vector without its interaction": (
        "SELECT count(*) FROM vectors WHERE interaction_ref NOT IN (SELECT id FROM interactions)"
    ),
    "a vector that is to be forgotten": "SELECT count(*) FROM vectors WHERE id IN (SELECT stamp FROM erased_vectors)",
    "a picture that nobody has": """SELECT count(*) FROM images m WHERE NOT EXISTS
        (SELECT 1 FROM interactions i WHERE i.account_id = m.account_id AND i.image_sha256 = m.sha256)""",
    "an interaction without its picture": """SELECT count(*) FROM interactions i WHERE image_sha256 IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM images m WHERE i.account_id = m.account_id AND i.image_sha256 = m.sha256)""",
    "a user without requests": """SELECT count(*) FROM users
        WHERE id NOT IN (SELECT user_ref FROM requests WHERE user_ref IS NOT NULL)""",
    "a request without interactions": """SELECT count(*) FROM requests
        WHERE erased_at IS NULL AND id NOT IN (SELECT request_ref FROM interactions)""",
    "an interaction of an erased request": """SELECT count(*) FROM interactions
        WHERE request_ref IN (SELECT id FROM requests WHERE erased_at IS NOT NULL)""",
    "a tombstone that tells of somebody": """SELECT count(*) FROM requests WHERE erased_at IS NOT NULL AND
        (user_ref IS NOT NULL OR published_ids IS NOT NULL OR stored_at != 0 OR created_at != 0 OR sequence != 0
         OR request_group || source || agent_version != '')""",
    "a count that is wrong": """SELECT count(*) FROM account_counters a WHERE last_sequence - erased !=
        (SELECT count(*) FROM interactions i WHERE i.account_id = a.account_id)
        OR position != last_sequence + erased""",
    "an account that counts nothing": """SELECT count(*) FROM accounts
        WHERE id NOT IN (SELECT account_id FROM account_counters)""",
    "a newest vector that is not": """SELECT count(*) FROM account_counters a
        WHERE newest_vector < (SELECT max(id) FROM vectors v WHERE v.account_id = a.account_id)""",
    "something waits that is not there": "SELECT count(*) FROM waiting WHERE id NOT IN (SELECT id FROM interactions)",
    "a text that nobody will embed": """SELECT count(*) FROM interactions i WHERE coalesce(i.model, 1) > 0
        AND NOT EXISTS (SELECT 1 FROM waiting w WHERE w.id = i.id)
        AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.interaction_ref = i.id)""",
    "a reference to nothing": "SELECT count(*) FROM pragma_foreign_key_check",
}

# The full text, and until all words are cut anew that of version 1: an index with the view of what it must hold.
INDEXES = {"full_text": "full_text_rows", "interactions_fts": "interactions_text"}
OF_INDEXES = {
    "full text without its interaction": "SELECT count(*) FROM {0}_docsize WHERE id NOT IN (SELECT id FROM {1})",
    "an interaction without its full text": """SELECT count(*) FROM {1}
        WHERE text != '' AND id NOT IN (SELECT id FROM {0}_docsize)""",
}


def faults(data_dir: Path, url: str | None = None) -> dict[str, int]:
    """What is wrong with the database in a data directory or at a URL, and how often; seen from beside the server."""
    if url is not None:
        return _faults_of_postgres(url)
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        found = {what: conn.execute(query).fetchone()[0] for what, query in FAULTS.items()}
        for index, view in INDEXES.items():
            if conn.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (index,)).fetchone():
                conn.execute(f"INSERT INTO {index} ({index}) VALUES ('integrity-check')")
                for what, query in OF_INDEXES.items():
                    found[f"{index}: {what}"] = conn.execute(query.format(index, view)).fetchone()[0]
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        conn.rollback()
    return {what: count for what, count in found.items() if count}


def _faults_of_postgres(url: str) -> dict[str, int]:
    """The same there, where references to nothing cannot be."""
    asked = {what: query for what, query in FAULTS.items() if "pragma" not in query}
    asked["full text without its interaction"] = (
        "SELECT count(*) FROM full_text WHERE id NOT IN (SELECT id FROM interactions)"
    )
    with psycopg.connect(url) as conn:
        found = {what: conn.execute(query.encode()).fetchone()[0] for what, query in asked.items()}  # type: ignore[index]
    return {what: count for what, count in found.items() if count}


def against_chroma(rows: Rows, chroma: ChromaRun) -> Counter[str]:
    """The `vectors` of a database, and how many the collections that searches ask lack (`missing`), have beside them
    (`extra`) and have otherwise (`wrong`)."""
    wanted = {stamp: np.frombuffer(one, "<f4") for stamp, one in rows("SELECT id, vector FROM vectors")}
    held: dict[int, Any] = {}
    for name in asked_collections(rows, chroma):
        held |= chroma.vectors(name)
    both = sorted(wanted.keys() & held.keys())
    same = [bool(np.isclose(held[stamp], wanted[stamp], atol=1e-3).all()) for stamp in both]
    return Counter(
        vectors=len(wanted),
        missing=len(wanted.keys() - held.keys()),
        extra=len(held.keys() - wanted.keys()),
        wrong=same.count(False),
    )


def asked_collections(rows: Rows, chroma: ChromaRun) -> list[str]:
    """The names on the Chroma server of the collections that searches of this database ask."""
    found = rows("SELECT folder, account_id, model, generation FROM collections")
    live = tuple(f"-{number}-account-{account}-model-{model}-{last}" for number, account, model, last in found)
    return [name for name in chroma.collections() if name.endswith(live)]
