"""The full text of PostgreSQL, a tsvector for each interaction: what dialect.FullText describes.

Its words are the stems that FTS5 would make, and whose it is; PostgreSQL neither parts nor stems anything.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, text

from reflexio_server.storage import postgres
from reflexio_server.storage.matches import Matches, numbers_in
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.stems import stems_of
from reflexio_server.words import begins_others

_OWNER, _HASHED = "@", "#"  # no word has these
_LONGEST = 255  # bytes of a word that is kept as it is; PostgreSQL takes 2,046
_MOST_BYTES = 1_000_000  # of a tsvector's words; PostgreSQL takes 2^20. What is over is not found

_LISTED = Prepared(
    text(
        """SELECT string_agg(found.refs, ';' ORDER BY q.number)
           FROM unnest(CAST(:matches AS text[])) WITH ORDINALITY AS q(match, number) CROSS JOIN LATERAL (
               SELECT coalesce(string_agg(CAST(one.id AS text), ',' ORDER BY one.id), '') AS refs
               FROM (SELECT id FROM full_text WHERE words @@ CAST(q.match AS tsquery) LIMIT :most) one) found"""
    )
)
# "+ 0" keeps PostgreSQL from walking all that is newer.
_NEWEST = Prepared(
    text(
        """SELECT coalesce(string_agg(CAST(one.id AS text), ',' ORDER BY one.id), '')
           FROM (SELECT id FROM full_text WHERE words @@ CAST(:match AS tsquery)
                 ORDER BY id + 0 DESC LIMIT :most) one"""
    )
)
# OFFSET keeps it from walking all that have the word.
_HAVING = Prepared(
    text(
        """SELECT coalesce(string_agg(CAST(one.id AS text), ',' ORDER BY one.id), '')
           FROM (SELECT f.id, f.words FROM unnest(CAST(:refs AS bigint[])) AS k(id) JOIN full_text f ON f.id = k.id
                 OFFSET 0) one
           WHERE one.words @@ CAST(:match AS tsquery)"""
    )
)
_TAKE_UP = Prepared(
    text(
        """SELECT gin_clean_pending_list(oid) FROM pg_class
           WHERE oid = to_regclass('full_text_by_word') AND pg_has_role(relowner, 'USAGE')"""
    )
)
_ERASE = Prepared(text("DELETE FROM full_text WHERE id = ANY(CAST(:refs AS bigint[]))"))


def add(conn: Connection, rows: Sequence[tuple[int, str, str]]) -> None:
    """Index texts: rows of (ref, owner, words)."""
    made = [(ref, _vector(owner, indexed)) for ref, owner, indexed in rows]
    postgres.insert_rows(conn, "full_text", ("id", "words"), made)


def erase(conn: Connection, refs: Sequence[int]) -> None:
    """Take interactions out of the index."""
    _ERASE.run(conn, refs=list(refs))


def pieces(_conn: Connection) -> int:
    """It is one: PostgreSQL takes up what is new in it by itself."""
    return 1


def merge(_conn: Connection, *, first: bool) -> bool:
    """Nothing is to be done."""
    return False


def take_up(conn: Connection) -> None:
    """Only the owner of the index may; without that it is done when the list is full."""
    _TAKE_UP.rows(conn)


def drop_first_version(_conn: Connection, *, first: bool) -> bool:
    """There is none: PostgreSQL came later."""
    return False


def matches(
    conn: Connection, account_id: int, user_ref: int | None, words: Mapping[str, str], most: int
) -> list[Matches]:
    """The owner's interactions with a word, for each of these words; of a word that more have the `most` newest."""
    asked = [_query(account_id, user_ref, [word]) for word in words]
    listed = _LISTED.scalar(conn, matches=asked, most=most + 1)
    found = [Matches(refs, True) for refs in map(numbers_in, listed.split(";"))]
    for number, match in enumerate(asked):
        if len(found[number].refs) > most:
            found[number] = Matches(_newest(conn, match, most), False)
    return found


def with_all(
    conn: Connection, account_id: int, user_ref: int | None, words: Collection[str], most: int
) -> NDArray[np.int64]:
    """The owner's newest interactions that have all of these words, in rising order."""
    return _newest(conn, _query(account_id, user_ref, words), most)


def having(conn: Connection, word: str, refs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which of these interactions have the word, in rising order."""
    return numbers_in(_HAVING.scalar(conn, refs=refs.tolist(), match=_asked(word)))


def _newest(conn: Connection, match: str, most: int) -> NDArray[np.int64]:
    return numbers_in(_NEWEST.scalar(conn, match=match, most=most))


def _query(account_id: int, user_ref: int | None, words: Iterable[str]) -> str:
    owner = f"a{account_id}" if user_ref is None else f"u{user_ref}"
    return " & ".join((f"'{_OWNER}{owner}'", *map(_asked, words)))


def _asked(word: str) -> str:
    """A word of a query as a tsquery, or all words that it begins. It has neither a quote nor a backslash in it."""
    (stem,) = stems_of(word)
    return f"'{_lexeme(stem)}'" + (":*" if begins_others(word) else "")


def _vector(owner: str, indexed: str) -> str:
    """A tsvector as PostgreSQL reads it."""
    lexemes = [_OWNER + one for one in owner.split()]
    size = 0
    for lexeme in dict.fromkeys(map(_lexeme, stems_of(indexed))):
        size += len(lexeme.encode())
        if size > _MOST_BYTES:
            break
        lexemes.append(lexeme)
    return " ".join(f"'{lexeme}'" for lexeme in lexemes)


def _lexeme(stem: str) -> str:
    if len(stem) <= _LONGEST // 4 or len(stem.encode()) <= _LONGEST:
        return stem
    return _HASHED + hashlib.sha256(stem.encode()).hexdigest()
