"""Whom and when a query names: words of roles, and dates."""

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

import numpy as np

from reflexio_server import roles, words
from reflexio_server.clock import now_us
from reflexio_server.core.query_words import STOP_WORDS
from reflexio_server.core.ranking import DAY, Named
from reflexio_server.dates.named import named
from reflexio_server.model import SearchQuery
from reflexio_server.storage.facts import Texts

_NAME_LETTERS = range(2, 9)  # of a name in a query without blanks
_MOST_YEARS = 30  # in which a date without a year is looked for, the last ones
_BEFORE, _AFTER = timedelta(days=1), timedelta(days=9)  # to midnight; people speak of what was yesterday, or last week


def named_in(query: SearchQuery, texts: Texts) -> Named:
    """What a query names, dates as of now where its caller is; a date without a year in each that the texts are of."""
    found = {roles.number(name) for name in _names(query.query) if name not in STOP_WORDS}
    today = datetime.fromtimestamp(now_us() / 10**6, query.zone).date()
    times = [
        (_midnight(one.first, -_BEFORE, query), _midnight(one.last, _AFTER, query))
        for one in named(query.query, today, _years(texts))
    ]
    return Named(np.array(sorted(found), dtype=np.int32), np.array(times, dtype=np.int64).reshape(-1, 2))


def _names(query: str) -> Iterator[str]:
    for word in words.whole(query):
        yield word
        if not words.is_spaced(word):
            for start in range(len(word)):
                yield from (word[start : start + size] for size in _NAME_LETTERS if start + size <= len(word))


def _years(texts: Texts) -> range:
    if not len(texts):
        return range(0)
    created = texts.rows["created_at"]
    first, last = (1970 + int(time // (365.2425 * DAY)) for time in (created.min(), created.max()))
    return range(max(first, last - _MOST_YEARS), last + 1)


def _midnight(day: date, shift: timedelta, query: SearchQuery) -> int:
    if date.max - day < _AFTER or day - date.min < 2 * _BEFORE:  # beyond what dates can say
        shift = timedelta()
    return int(datetime.combine(day + shift, time(), query.zone).timestamp() * 10**6)
