"""The full text of SQLite, FTS5: what dialect.FullText describes.

The index, `full_text`, keeps no texts: what is to be deleted is found by exactly the words that were put in, which
therefore stay beside the row. What version 1 of the words stored is in an index of its own, `interactions_fts`, whose
own tokenizer cut it; it is dropped when all its rows have been cut anew.
"""

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, TextClause, text

from reflexio_server.storage import sqlite
from reflexio_server.storage.matches import Matches, numbers_in
from reflexio_server.storage.prepared import Prepared
from reflexio_server.words import begins_others

_ALL = 2**62
_MERGE_PAGES = 100  # of work a step, which publishes wait for: about 10 ms

# All numbers of a word come as one text, see `numbers_in`.
_LISTED = Prepared(
    text(
        """SELECT group_concat(refs, ';')
           FROM (SELECT (SELECT coalesce(group_concat(rowid), '')
                         FROM (SELECT rowid FROM full_text WHERE full_text MATCH k.value LIMIT :most)) AS refs
                 FROM json_each(:matches) k)"""
    )
)
_NEWEST = Prepared(
    text(
        """SELECT coalesce(group_concat(rowid), '')
           FROM (SELECT rowid FROM full_text WHERE full_text MATCH :match ORDER BY rowid DESC LIMIT :most)"""
    )
)
_HAVING = Prepared(
    text(
        """SELECT coalesce(group_concat(k.value), '')
           FROM json_each(:refs) k CROSS JOIN full_text f ON f.rowid = k.value WHERE full_text MATCH :match"""
    )
)
_PIECES = Prepared(text("SELECT count(DISTINCT segid) FROM full_text_idx"))
_HAS_FIRST_VERSION = Prepared(text("SELECT has_first FROM words_state WHERE id = 1"))
_FIRST_VERSION = Prepared(
    text("SELECT coalesce(group_concat(rowid), '') FROM interactions_fts WHERE interactions_fts MATCH :match")
)


def add(conn: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """Index texts: rows of (ref, owner, words)."""
    sqlite.insert_rows(conn, "full_text", ("rowid", "owner", "text"), rows)


def erase(conn: Connection, refs: Sequence[int]) -> None:
    """Take interactions out of the index, as long as they are there themselves.

    Their words stay on disk until `merge` is through.
    """
    for index, view in _indexes(conn):
        conn.execute(_erase_from(index, view), {"refs": json.dumps(list(refs))})


def pieces(conn: Connection) -> int:
    """How many pieces the index is in. https://sqlite.org/fts5.html#fts5_data_structures"""
    return int(_PIECES.scalar(conn))


def merge(conn: Connection, *, first: bool) -> bool:
    """Do a step of making the index one piece, which leaves out what was deleted; False when it is one.

    `first`: take up all pieces there are, else go on. https://sqlite.org/fts5.html#the_merge_command
    """
    steps = [_merge_step(conn, index, first=first) for index, _ in _indexes(conn)]
    return any(steps)


def take_up(_conn: Connection) -> None:
    """Nothing waits beside it: each transaction adds a piece."""


def matches(
    conn: Connection, account_id: int, user_ref: int | None, words: Mapping[str, str], most: int
) -> list[Matches]:
    """The owner's interactions with a word, for each of these words; of a word that more have the `most` newest.

    `words`: each with how it was written before it was cut: what version 1 stored is asked for both, and then comes
    whole. One word at a time: bm25() would walk everybody's rows with the word to weigh it, and took three times as
    long.
    """
    asked = [f"{_of(account_id, user_ref)} AND text : {_quoted(word)}" for word in words]
    most = most if not _has_first_version(conn) else _ALL
    listed = _LISTED.scalar(conn, matches=json.dumps(asked), most=most + 1)
    found = [Matches(refs, True) for refs in map(numbers_in, listed.split(";"))]
    for number, match in enumerate(asked):
        if len(found[number].refs) > most:
            found[number] = Matches(_newest(conn, match, most), False)
    if most == _ALL:
        for number, (word, spelling) in enumerate(words.items()):
            either = f"{_of(account_id, user_ref)} AND text : ({_quoted(word)} OR {_quoted(spelling)})"
            first = numbers_in(_FIRST_VERSION.scalar(conn, match=either))
            found[number] = Matches(np.sort(np.append(found[number].refs, first)), True)
    return found


def with_all(
    conn: Connection, account_id: int, user_ref: int | None, words: Collection[str], most: int
) -> NDArray[np.int64]:
    """The owner's newest interactions that have all of these words, in rising order."""
    together = " AND ".join(_quoted(word) for word in words)
    return _newest(conn, f"{_of(account_id, user_ref)} AND text : ({together})", most)


def having(conn: Connection, word: str, refs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of these interactions have the word, in rising order; each takes about 20 µs."""
    return numbers_in(_HAVING.scalar(conn, refs=json.dumps(refs.tolist()), match=f"text : {_quoted(word)}"))


def _of(account_id: int, user_ref: int | None) -> str:
    return f"owner : a{account_id}" if user_ref is None else f"owner : u{user_ref}"


def _newest(conn: Connection, match: str, most: int) -> NDArray[np.int64]:
    return numbers_in(_NEWEST.scalar(conn, match=match, most=most))[::-1]


def drop_first_version(conn: Connection, *, first: bool) -> bool:
    """Once no row is old: do a step (see `merge`) of emptying what only old rows needed; False when it is gone.

    Needs a write transaction. Emptied first, step by step, it is dropped in no time.
    """
    if _has_first_version(conn):
        if _merge_step(conn, "interactions_fts", first=first):
            return True
        conn.exec_driver_sql("DROP TABLE interactions_fts")
        conn.exec_driver_sql("DROP VIEW interactions_text")
    return False


def _has_first_version(conn: Connection) -> bool:
    return bool(_HAS_FIRST_VERSION.scalar(conn))


def _indexes(conn: Connection) -> list[tuple[str, str]]:
    """The indexes there are, each with the view that says what was put in."""
    first = [("interactions_fts", "interactions_text")] if _has_first_version(conn) else []
    return [*first, ("full_text", "full_text_rows")]


def _erase_from(index: str, view: str) -> TextClause:
    return text(
        f"""INSERT INTO {index} ({index}, rowid, owner, text)
            SELECT 'delete', t.id, t.owner, t.text FROM json_each(:refs) k CROSS JOIN {view} t
            ON t.id = k.value WHERE t.text != ''"""
    )


def _merge_step(conn: Connection, index: str, *, first: bool) -> bool:
    driver = conn.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    before = driver.total_changes
    pages = -_MERGE_PAGES if first else _MERGE_PAGES
    conn.exec_driver_sql(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (pages,))
    return driver.total_changes - before >= 2


def _quoted(word: str) -> str:
    """A word as an FTS5 string, whatever is in it, or all words that it begins."""
    return '"' + word.replace('"', '""') + ('"*' if begins_others(word) else '"')
