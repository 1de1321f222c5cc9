"""How well an interaction fits a query, from three parts: its meaning, its words, its thread. Pure functions."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from reflexio_server.model import Hit

# Weights of the parts; their sum is 1. On the LoCoMo turns all mixes near this one find about as many, whichever
# conversations they are chosen on (docs/benchmarks.md), so nothing hangs on the second digit.
SEMANTIC_WEIGHT = 0.4
LEXICAL_WEIGHT = 0.35
THREAD_WEIGHT = 0.25

EVERYDAY_SHARE = 0.2
EVERYDAY_FROM_TEXTS = 100
MOST_WORDS = 64
_TIE_DECIMALS = 6  # equal texts may differ in the seventh, by where their vectors stand in memory

# What the full-text index takes for a word; its tokenizer, unicode61, splits at an underscore too.
_WORD = re.compile(r"[^\W_]+")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")

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


def search_words(query: str) -> list[str]:
    """The query's distinct words in lower case, at most MOST_WORDS, to be looked up and counted.

    English stop words are left out, and the schemes of addresses, which are not indexed; unless nothing else is left.
    """
    query = query.lower()
    words = list(dict.fromkeys(_WORD.findall(_SCHEME.sub(" ", query)) or _WORD.findall(query)))
    return ([word for word in words if word not in STOP_WORDS] or words)[:MOST_WORDS]


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
    return _WORD.sub(lambda match: "" if match[0].lower() in everyday else match[0], query)


def rarity(texts: int, with_word: int) -> float:
    """How much a word tells that stands in `with_word` of `texts` texts: ln(1 + texts / (with_word + 1)).

    An inverse document frequency (Spärck Jones, 1972), smoothed so that it is above 0 for every word and every
    count, 0 included. Of those tried on the LoCoMo turns it found most.
    """
    return float(np.log(1 + texts / (with_word + 1)))


def lexical_parts(matches: Sequence[NDArray[np.int64]], texts: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The interactions with any of the query's words, in rising order, and their lexical part.

    The lexical part is the share of the query's words that the text has, weighed by rarity: 1 for a text that has
    them all. `matches` names all interactions with each word, once each.

    How often a text has a word, and how long it is, does not count: on the LoCoMo turns BM25 with either is worse
    (docs/benchmarks.md), and its scores have no upper bound that would mean the same on every query.
    """
    if not matches:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    weights = [rarity(texts, len(match)) for match in matches]
    refs, where, counts = np.unique(np.concatenate(matches), return_inverse=True, return_counts=True)
    per_match = np.repeat(weights, [len(match) for match in matches])
    shares: NDArray[np.float64] = np.bincount(where, per_match, len(refs)) / sum(weights)
    return refs, np.where(counts == len(matches), 1.0, shares)  # a sum in another order may lack the last bit


def best_per_interaction(
    refs: NDArray[np.int64], cosines: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Each interaction once, in rising order, with the best of its chunks' cosines as a part of 0 to 1."""
    if not len(refs):
        return refs, np.zeros(0)
    order = np.argsort(refs, kind="stable")  # nearly sorted, and then quick
    refs = refs[order]
    starts = np.flatnonzero(np.append(True, refs[1:] != refs[:-1]))
    best = np.maximum.reduceat(cosines[order], starts).astype(np.float64)
    return refs[starts], best.clip(0.0, 1.0).round(_TIE_DECIMALS)


def thread_parts(base: NDArray[np.float64], threads: NDArray[np.int64]) -> NDArray[np.float64]:
    """How well the best other interaction of the same thread fits, 0 to 1; `threads` by number, 0: none.

    `base` is what the scores are without this part: at most 1 - THREAD_WEIGHT.
    """
    parts = np.zeros(len(base))
    members = np.flatnonzero(threads)
    if not len(members):
        return parts
    members = members[np.argsort(threads[members], kind="stable")]
    numbers, scores = threads[members], base[members]
    starts = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1]))
    sizes = np.diff(np.append(starts, len(numbers)))
    best = np.repeat(np.maximum.reduceat(scores, starts), sizes)
    is_best = scores == best
    alone = is_best & (np.repeat(np.add.reduceat(is_best, starts, dtype=np.int64), sizes) == 1)
    second = np.repeat(np.maximum.reduceat(np.where(is_best, 0.0, scores), starts), sizes)
    parts[members] = np.where(alone, second, best) / (SEMANTIC_WEIGHT + LEXICAL_WEIGHT)
    return parts.clip(0.0, 1.0)


def rank(
    refs: NDArray[np.int64],
    semantic: NDArray[np.float64],
    lexical: NDArray[np.float64],
    count: int,
    threads: NDArray[np.int64] | None = None,
    least: float = 0.0,
) -> list[Hit]:
    """The best `count` of all that have a score of at least `least`; equal scores are ordered newest stored first.

    What fits neither in meaning nor by words is no hit, whatever its thread. `threads` by number, None: nothing has
    one.
    """
    base = SEMANTIC_WEIGHT * semantic + LEXICAL_WEIGHT * lexical
    thread = np.zeros(len(refs)) if threads is None else thread_parts(base, threads)
    scores = (base + THREAD_WEIGHT * thread).clip(0.0, 1.0)
    chosen = np.flatnonzero((base > 0) & (scores >= least))
    if len(chosen) > count:
        chosen = chosen[scores[chosen] >= np.partition(scores[chosen], -count)[-count]]
    order = chosen[np.lexsort((-refs[chosen], -scores[chosen]))[:count]]
    columns = (refs[order], scores[order], semantic[order], lexical[order], thread[order])
    return [Hit(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
