"""Which of a query's words are looked up, and which are left out of what is embedded."""

import re
import unicodedata
from collections.abc import Mapping

from reflexio_server import words

EVERYDAY_SHARE = 0.2
EVERYDAY_FROM_TEXTS = 100
MOST_WORDS = 64

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

# English function words, and what an apostrophe leaves of them.
STOP_WORDS = frozenset(
    """a about above after again against all am an and any are as at be because been before being below between both
    but by can cannot could did do does doing don down during each few for from further had has have having he her
    here hers herself him himself his how i if in into is it its itself let me more most my myself no nor not of off
    on once only or other ought our ours ourselves out over own same she should so some such than that the their
    theirs them themselves then there these they this those through to too under until up very was we were what when
    where which while who whom why will with would you your yours yourself yourselves
    aren couldn d didn doesn hadn hasn haven isn ll m re s shouldn t ve wasn weren won wouldn""".split()
)


def search_words(query: str) -> dict[str, str]:
    """The query's distinct words, at most MOST_WORDS, to be looked up and counted, each with its spelling there.

    English stop words are left out, and the schemes of addresses, which are not indexed; unless nothing else is left.
    Of more, those looked up are spread evenly over the query: of a script that is cut into parts, over all its words.
    """
    found = _spelled(_SCHEME.sub(" ", query)) or _spelled(query)
    telling = {word: spelling for word, spelling in found.items() if not _is_stop_word(spelling)}
    asked = list((telling or found).items())
    count = min(len(asked), MOST_WORDS)
    return dict(asked[place * len(asked) // count] for place in range(count))


def without_everyday_words(query: str, texts: int, texts_with: Mapping[str, int]) -> str:
    """The query as it is to be embedded: without the words that stand in a fifth of the searched texts.

    Such words, above all names, pull the query towards everything and so towards nothing. Below 100 texts, and where
    nothing but stop words would be left, the query stays as it is. `texts_with`: in how many texts each of the
    query's search words stands.
    """
    if texts < EVERYDAY_FROM_TEXTS:
        return query
    everyday = {word for word, count in texts_with.items() if count >= EVERYDAY_SHARE * texts}
    if not set(texts_with) - everyday - STOP_WORDS:
        return query
    return "".join(piece for piece, found in words.pieces(query) if not found or not everyday.issuperset(found))


def _spelled(query: str) -> dict[str, str]:
    spelled: dict[str, str] = {}
    for piece, found in words.pieces(query):
        for word in found:
            spelled.setdefault(word, piece)
    return spelled


def _is_stop_word(spelling: str) -> bool:
    """By its spelling: with its marks folded away many a word of another language would be an English one."""
    return unicodedata.normalize("NFKC", spelling).casefold() in STOP_WORDS
