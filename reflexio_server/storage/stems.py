"""Words as FTS5 keeps them, asked of itself: so a text has the same words whatever database it is in."""

import re
import sqlite3
import threading
from collections.abc import Iterable
from functools import cache

_TOKEN = re.compile("[a-z0-9\x80-\U0010ffff]+")
_MOST_KEPT = 200_000  # words, some 40 MB

_lock = threading.Lock()
_stems: dict[str, str] = {}


def stems_of(indexed: str) -> list[str]:
    """The stems of what `words.to_index` gives, which is parted at whatever is ASCII and no letter or digit."""
    found = _TOKEN.findall(indexed.lower() if indexed.isascii() else indexed)
    try:
        return [_stems[word] for word in found]
    except KeyError:
        made = _made(found)
        return [made[word] for word in found]


def _made(words: Iterable[str]) -> dict[str, str]:
    with _lock:
        known = {word: _stems[word] for word in words if word in _stems}
        new = [word for word in dict.fromkeys(words) if word not in known]
        fts5 = _fts5()
        fts5.execute("INSERT INTO words (text) VALUES (?)", (" ".join(new),))
        found = dict(fts5.execute("SELECT offset, term FROM terms").fetchall())
        fts5.execute("INSERT INTO words (words) VALUES ('delete-all')")
        made = {word: found[number] for number, word in enumerate(new)}
        if len(_stems) + len(made) > _MOST_KEPT:
            _stems.clear()
        _stems.update(made)
        return known | made


@cache
def _fts5() -> sqlite3.Connection:
    opened = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    opened.execute("CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='porter ascii')")
    opened.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(words, 'instance')")
    return opened
