"""How well an interaction fits a query, from three parts: its meaning, its words, its thread. Pure functions."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reflexio_server.model import Hit

# Weights of the parts. Of the mixes tried on the LoCoMo turns (docs/benchmarks.md) this found among the most; the
# neighbours of these numbers find about as many, so nothing hangs on the second digit.
SEMANTIC_WEIGHT = 0.7
LEXICAL_WEIGHT = 0.45
THREAD_WEIGHT = 0.3
_TOTAL = SEMANTIC_WEIGHT + LEXICAL_WEIGHT + THREAD_WEIGHT

LEXICAL_HALF = 8.0
"""The BM25 at which the lexical part is one half: s / (s + c) means the same on every query, s / max(s) does not."""

EVERYDAY_SHARE = 0.2
EVERYDAY_FROM_TEXTS = 100
MOST_WORDS = 64

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


def words_of(query: str) -> list[str]:
    """The query's distinct words in lower case, at most MOST_WORDS."""
    return list(dict.fromkeys(re.findall(r"\w+", query.lower())))[:MOST_WORDS]


def search_words(query: str) -> list[str]:
    """The words to look up: without English stop words, unless nothing else is left."""
    words = words_of(query)
    return [word for word in words if word not in STOP_WORDS] or words


def without_everyday_words(query: str, texts: int, texts_with: Callable[[str], int]) -> str:
    """The query as it is to be embedded: without the words that stand in a fifth of the searched texts.

    Such words, above all names, pull the query towards everything and so towards nothing. Below 100 texts, and where
    nothing would be left, the query stays as it is. `texts_with` counts the texts that have a word.
    """
    if texts < EVERYDAY_FROM_TEXTS:
        return query
    everyday = {word for word in words_of(query) if texts_with(word) >= EVERYDAY_SHARE * texts}
    if not set(words_of(query)) - everyday - STOP_WORDS:
        return query
    return re.sub(r"\w+", lambda match: "" if match[0].lower() in everyday else match[0], query)


def lexical_part(bm25: float) -> float:
    """A BM25 score of 0 or more as a part of 0 to 1."""
    return bm25 / (bm25 + LEXICAL_HALF)


def best_per_interaction(
    refs: NDArray[np.int64], cosines: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each interaction once, with the best of its chunks' cosines, not below 0 and, rounded as it is, not above 1."""
    unique, where = np.unique(refs, return_inverse=True)
    best = np.zeros(len(unique))
    np.maximum.at(best, where, cosines)
    return unique, np.minimum(best, 1.0)


def rank(refs: NDArray[np.int64], semantic: NDArray[np.float64], lexical: Mapping[int, float], count: int) -> list[Hit]:
    """The best `count` interactions without their threads: those to look at more closely.

    `refs` and `semantic` hold every candidate once; `lexical` the part of those that have any of the words.
    """
    words = np.array([lexical.get(ref, 0.0) for ref in refs.tolist()]) if lexical else np.zeros(len(refs))
    scores = (SEMANTIC_WEIGHT * semantic + LEXICAL_WEIGHT * words) / _TOTAL
    order = np.lexsort((-refs, -scores))[:count]
    return [Hit(int(refs[i]), float(scores[i]), float(semantic[i]), float(words[i])) for i in order if scores[i] > 0]


def with_threads(hits: Sequence[Hit], threads: Mapping[int, tuple[int, str]]) -> list[Hit]:
    """The hits, ordered anew, with the part of their threads: the best other hit of the same thread.

    `threads` names the thread of each hit that has one. Equal scores are ordered newest stored first.
    """
    by_thread: dict[tuple[int, str], list[Hit]] = {}
    for hit in hits:  # best first, so a thread's first two are its best
        if hit.ref in threads:
            by_thread.setdefault(threads[hit.ref], []).append(hit)
    ranked: list[Hit] = []
    for hit in hits:
        others = [other for other in by_thread.get(threads.get(hit.ref, (0, "")), [])[:2] if other is not hit]
        thread = min(1.0, others[0].score * _TOTAL / (SEMANTIC_WEIGHT + LEXICAL_WEIGHT)) if others else 0.0
        score = hit.score + THREAD_WEIGHT * thread / _TOTAL
        ranked.append(Hit(hit.ref, min(1.0, score), hit.semantic, hit.lexical, thread))
    return sorted(ranked, key=lambda hit: (-hit.score, -hit.ref))
