"""How well an interaction fits a query, from three parts: its meaning, its words, its thread. Pure functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reflexio_server.model import Hit
from reflexio_server.storage.vectors import Rows

# Weights of the parts; their sum is 1. On the LoCoMo turns all mixes near this one find about as many, whichever
# conversations they are chosen on (docs/benchmarks.md), so nothing hangs on the second digit.
SEMANTIC_WEIGHT = 0.4
LEXICAL_WEIGHT = 0.35
THREAD_WEIGHT = 0.25

_TIE_DECIMALS = 6  # equal texts may differ in the seventh, by where their vectors stand in memory


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
    refs = np.concatenate(matches) if matches else np.zeros(0, dtype=np.int64)
    if not len(refs):
        return refs, np.zeros(0)
    order = np.argsort(refs, kind="stable")  # of lists in rising order, and then quick
    refs = refs[order]
    starts = np.flatnonzero(np.append(True, refs[1:] != refs[:-1]))
    texts = max(texts, len(starts))  # where texts are counted by their vectors, those without one may be missing
    weights = [rarity(texts, len(match)) for match in matches]
    per_match = np.repeat(weights, [len(match) for match in matches])
    shares = np.add.reduceat(per_match[order], starts) / sum(weights)
    counts = np.diff(np.append(starts, len(refs)))
    return refs[starts], np.where(counts == len(matches), 1.0, shares)  # a sum may lack the last bit


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


def best(
    rows: Rows,
    cosines: NDArray[np.float32],
    matched: tuple[NDArray[np.int64], NDArray[np.float64]],
    count: int,
    least: float,
) -> list[Hit]:
    """The best of all that were compared, each as often as it has vectors, and `matched` as `lexical_parts` gives it.

    See `rank`.
    """
    found, semantic = best_per_interaction(rows["ref"], cosines)
    lexical, thread_of = np.zeros(len(found)), np.zeros(len(found), dtype=np.int64)
    thread_of[np.searchsorted(found, rows["ref"])] = rows["thread"]
    at = np.searchsorted(found, matched[0])
    there = at < len(found)
    there[there] = found[at[there]] == matched[0][there]
    lexical[at[there]] = matched[1][there]
    return rank(found, semantic, lexical, count, thread_of, least)


def first(refs: NDArray[np.int64], scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Places of the best `count`, best first; equal scores are ordered newest stored first."""
    places = np.arange(len(refs))
    if len(refs) > count:
        least = np.partition(scores, -count)[-count]
        above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        newest = np.argsort(refs[equal], kind="stable")[len(above) - count :]
        places = np.append(above, equal[newest])
    return places[np.lexsort((-refs[places], -scores[places]))]


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
    order = chosen[first(refs[chosen], scores[chosen], count)]
    columns = (refs[order], scores[order], semantic[order], lexical[order], thread[order])
    return [Hit(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
