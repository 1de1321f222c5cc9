"""How well an interaction fits a query, from three parts: its meaning, its words, its thread. Pure functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index.embedder import Scale
from reflexio_server.model import Hit
from reflexio_server.storage.vectors import Rows

# Weights of the parts; their sum is 1. On the LoCoMo turns all mixes near this one find about as many, whichever
# conversations they are chosen on (docs/benchmarks.md), so nothing hangs on the second digit.
SEMANTIC_WEIGHT = 0.4
LEXICAL_WEIGHT = 0.35
THREAD_WEIGHT = 0.25

DECIMALS = 9  # of a sum of words' shares, so that it is the same in any order, and 1 for all of them
_COSINE = Scale()
_TIE_DECIMALS = 6  # equal texts may differ in the seventh, by where their vectors stand in memory


def rarity(texts: int, with_word: int) -> float:
    """How much a word tells that stands in `with_word` of `texts` texts: ln(1 + texts / (with_word + 1)).

    An inverse document frequency (Spärck Jones, 1972), smoothed so that it is above 0 for every word and every
    count, 0 included. Of those tried on the LoCoMo turns it found most.
    """
    return float(np.log(1 + texts / (with_word + 1)))


def lexical_parts(
    matches: Sequence[NDArray[np.int64]], counts: Sequence[int], texts: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], list[float]]:
    """The interactions with any of the query's words, in rising order, their lexical part, and each word's share of it.

    The lexical part is the share of the query's words that the text has, weighed by rarity: 1 for a text that has
    them all. `matches` names interactions with each word, once each; `counts` says how many there are.

    How often a text has a word, and how long it is, does not count: on the LoCoMo turns BM25 with either is worse
    (docs/benchmarks.md), and its scores have no upper bound that would mean the same on every query.
    """
    refs = np.concatenate(matches) if matches else np.zeros(0, dtype=np.int64)
    if not len(refs):
        return refs, np.zeros(0), [0.0] * len(matches)
    order = np.argsort(refs, kind="stable")  # of lists in rising order, and then quick
    refs = refs[order]
    starts = np.flatnonzero(np.append(True, refs[1:] != refs[:-1]))
    texts = max(texts, len(starts))  # where texts are counted by their vectors, those without one may be missing
    weights = np.array([rarity(texts, count) for count in counts])
    shares = weights / weights.sum()
    per_match = np.repeat(shares, [len(match) for match in matches])
    return refs[starts], np.add.reduceat(per_match[order], starts), shares.tolist()


def best_per_interaction(
    rows: Rows, cosines: NDArray[np.float32], scale: Scale = _COSINE
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Each interaction once, in rising order, the best of its chunks' cosines as a part of 0 to 1, and its thread.

    `scale` is that of the model whose vectors were compared.
    """
    refs = rows["ref"]
    if not len(refs):
        return refs, np.zeros(0), rows["thread"]
    order = np.argsort(refs, kind="stable")  # nearly sorted, and then quick
    refs = refs[order]
    starts = np.flatnonzero(np.append(True, refs[1:] != refs[:-1]))
    best = np.maximum.reduceat(cosines[order], starts).astype(np.float64)
    return refs[starts], scale.parts(best.clip(0.0, 1.0).round(_TIE_DECIMALS)), rows["thread"][order[starts]]


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


def leading(
    refs: NDArray[np.int64], base: NDArray[np.float64], threads: NDArray[np.int64], hits: Sequence[Hit]
) -> NDArray[np.int64]:
    """What the places of these hits hang on: they themselves, and the best two of each of their threads."""
    chosen = np.isin(refs, [hit.ref for hit in hits])
    inside = np.flatnonzero((threads != 0) & np.isin(threads, threads[chosen]))
    inside = inside[np.lexsort((-base[inside], threads[inside]))]
    before = np.append([0, 0], threads[inside])[: len(inside)]  # of the one two places before
    return np.append(refs[chosen], refs[inside[threads[inside] != before]])


def first(refs: NDArray[np.int64], scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Places of the best `count`, best first; equal scores are ordered newest stored first."""
    places = np.arange(len(refs))
    if len(refs) > count:
        least = np.partition(scores, -count)[-count]
        above, equal = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        newest = np.argsort(refs[equal], kind="stable")[len(above) - count :]
        places = np.append(above, equal[newest])
    return places[np.lexsort((-refs[places], -scores[places]))]


def base_of(semantic: NDArray[np.float64], lexical: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the scores are without the threads' part."""
    return SEMANTIC_WEIGHT * semantic + LEXICAL_WEIGHT * lexical


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
    base = base_of(semantic, lexical)
    thread = np.zeros(len(refs)) if threads is None else thread_parts(base, threads)
    scores = (base + THREAD_WEIGHT * thread).clip(0.0, 1.0)
    chosen = np.flatnonzero((base > 0) & (scores >= least))
    order = chosen[first(refs[chosen], scores[chosen], count)]
    columns = (refs[order], scores[order], semantic[order], lexical[order], thread[order])
    return [Hit(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
