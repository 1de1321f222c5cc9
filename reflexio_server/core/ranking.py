"""How well an interaction fits a query, from its parts: its meaning and words, what stands around it, who said it when.

Pure functions. All parts are 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index.embedder import Scale
from reflexio_server.model import Hit
from reflexio_server.storage.facts import Rows, Texts

# Weights of the parts. On the LoCoMo turns all mixes near this one find about as many, whichever conversations they are
# chosen on (docs/benchmarks.md), so nothing hangs on the second digit.
SEMANTIC_WEIGHT = 0.4
LEXICAL_WEIGHT = 0.35
NEAR_WEIGHT = 0.25
THREAD_WEIGHT = 0.15
ANSWER_WEIGHT = 0.1125
ROLE_WEIGHT = 0.08
TIME_WEIGHT = 0.15
ASKS_WEIGHT = -0.05  # who looks for something wants the answer, not the one who asked before
PARTS = ("semantic", "lexical", "near", "thread", "answer", "role", "time", "asks")
WEIGHTS = (
    *(SEMANTIC_WEIGHT, LEXICAL_WEIGHT, NEAR_WEIGHT, THREAD_WEIGHT),
    *(ANSWER_WEIGHT, ROLE_WEIGHT, TIME_WEIGHT, ASKS_WEIGHT),
)
"""In the order of PARTS, as `Hit` has them."""
LARGEST = 1.4925
"""The sum of the weights above 0. The same for every query, so that a score means one thing."""

_SECOND = 0.8  # what the one two places away counts, beside the next one
DAY = 86_400 * 10**6
_FADES_DAYS = 7.0  # what is so far from a time counts 1/e of what is in it

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


@dataclass(frozen=True, eq=False)
class Named:
    """Whom and when a query names.

    Attributes:
        roles: numbers of words, see `roles.number`.
        times: (n, 2) of Unix microseconds, the first and the last of each.
    """

    roles: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))


def semantic_parts(texts: Texts, cosines: NDArray[np.float32], scale: Scale = _COSINE) -> NDArray[np.float64]:
    """Of each interaction the best of its chunks' cosines, as a part; `scale` is that of the model that was asked."""
    return scale.parts(texts.best(cosines).clip(0.0, 1.0).round(_TIE_DECIMALS))


def base_of(semantic: NDArray[np.float64], lexical: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well an interaction fits by itself; a part of 0 to 1, as one of the sum."""
    return (SEMANTIC_WEIGHT * semantic + LEXICAL_WEIGHT * lexical) / (SEMANTIC_WEIGHT + LEXICAL_WEIGHT)


def near_parts(texts: Texts, base: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well those up to two places away in the thread fit, the best of them; the farther ones count less."""
    parts = np.zeros(len(base))
    for links, share in zip(texts.links, (1.0, _SECOND), strict=True):
        np.maximum.at(parts, links.later, share * base[links.earlier])
        np.maximum.at(parts, links.earlier, share * base[links.later])
    return parts


def answer_parts(texts: Texts, base: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well the one just before fits, if that is a question."""
    parts = np.zeros(len(base))
    earlier, later = texts.links[0]
    asks = texts.rows["asks"][earlier]
    np.maximum.at(parts, later[asks], base[earlier[asks]])
    return parts


def thread_parts(texts: Texts, base: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well the best other interaction of the same thread fits."""
    parts = np.zeros(len(base))
    if not len(texts.walk):
        return parts
    scores, starts = base[texts.walk], texts.threads
    sizes = np.diff(np.append(starts, len(scores)))
    best = np.repeat(np.maximum.reduceat(scores, starts), sizes)
    is_best = scores == best
    alone = is_best & (np.repeat(np.add.reduceat(is_best, starts, dtype=np.int64), sizes) == 1)
    second = np.repeat(np.maximum.reduceat(np.where(is_best, 0.0, scores), starts), sizes)
    parts[texts.walk] = np.where(alone, second, best)
    return parts


def role_parts(texts: Texts, named: NDArray[np.int32]) -> NDArray[np.float64]:
    """1 where a word of the role is one of these."""
    if not len(named):
        return np.zeros(len(texts))
    roles, which = texts.roles
    is_named: NDArray[np.bool_] = np.any(np.isin(roles, named), axis=1)
    return is_named[which.reshape(-1)].astype(np.float64)


def time_parts(rows: Rows, times: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 in one of the times; outside of all exp(-days to the nearest / 7)."""
    parts: NDArray[np.float64] = np.zeros(len(rows))
    created: NDArray[np.int64] = rows["created_at"]
    for begin, end in times.tolist():
        outside = np.maximum(begin - created, created - end).clip(0)
        parts = np.maximum(parts, np.exp(outside / (-DAY * _FADES_DAYS)))
    return parts.round(_TIE_DECIMALS)


def leading(texts: Texts, base: NDArray[np.float64], hits: Sequence[Hit]) -> NDArray[np.int64]:
    """What the places of these hits hang on: they, those near them, and the best two of each of their threads."""
    chosen = np.isin(texts.refs, [hit.ref for hit in hits])
    near = [texts.refs[one[chosen[other]]] for links in texts.links for one, other in (links, links[::-1])]
    threads = texts.rows["thread"]
    inside = np.flatnonzero((threads != 0) & np.isin(threads, threads[chosen]))
    inside = inside[np.lexsort((-base[inside], threads[inside]))]
    before = np.append([0, 0], threads[inside])[: len(inside)]  # of the one two places before
    return np.concatenate([texts.refs[chosen], *near, texts.refs[inside[threads[inside] != before]]])


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
    texts: Texts,
    semantic: NDArray[np.float64],
    lexical: NDArray[np.float64],
    count: int,
    named: Named | None = None,
    least: float = 0.0,
) -> list[Hit]:
    """The best `count` of all that have a score of at least `least`; equal scores are ordered newest stored first.

    What fits neither by itself, nor is near one that does, is no hit, whatever its thread, its role and its time.
    """
    named = named or Named()
    base = base_of(semantic, lexical)
    near, answer, thread = near_parts(texts, base), answer_parts(texts, base), thread_parts(texts, base)
    role, time = role_parts(texts, named.roles), time_parts(texts.rows, named.times)
    parts = (semantic, lexical, near, thread, answer, role, time, texts.rows["asks"].astype(np.float64))
    scores = sum(weight * part for weight, part in zip(WEIGHTS, parts, strict=True)) / LARGEST
    scores = np.asarray(scores).clip(0.0, 1.0)
    chosen = np.flatnonzero(((base > 0) | (near > 0)) & (scores >= least))
    order = chosen[first(texts.refs[chosen], scores[chosen], count)]
    columns = (texts.refs, scores, *parts)
    return [Hit(*values) for values in zip(*(column[order].tolist() for column in columns), strict=True)]
