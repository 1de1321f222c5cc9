"""Candidates of a search: all of a part that can be compared one by one, else what Chroma finds nearest.

Which they are never hangs on how many hits are wanted: the best ten of a search are the first ten of its best hundred.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.core.following import Follower
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.model import Filter
from reflexio_server.storage import collections, interactions, vectors
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.vectors import Vectors

EXACT_USER = 100_000  # up to so many vectors of one user are compared one by one: 3.4 ms, and nothing is missed
EXACT_FILTERED = 20_000  # the same for a filtered set of a whole account, and for what has all the words
NEAREST = 1_000  # how many Chroma is asked for: as many as may be wanted
MOST_FETCHED = 20_000  # how many are asked of Chroma at most, and how many matches by words are put to the filter
GROWTH = 10  # how many times more is asked when a filter dropped too many
WORD_MATCHES = 1_000  # matches by words, the best, that are ranked beside what Chroma finds; all with all the words are
TAIL = 20_000  # vectors that Chroma does not have yet and that are compared one by one

Refs = NDArray[np.int64]
Parts = NDArray[np.float64]
Compared = tuple[Refs, NDArray[np.float32], Refs]
"""Interactions, the cosine of a vector of each, and the numbers of their threads; one may come several times."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Interactions in rising order of `refs`, with their semantic and lexical parts and the numbers of their threads.

    `behind`: how many with a vector were passed over, as Chroma does not have them yet.
    """

    refs: Refs
    semantic: Parts
    lexical: Parts
    threads: Refs
    behind: int = 0


class Finder:
    """Finds the candidates of one search at a time."""

    def __init__(self, cache: VectorCache, follower: Follower) -> None:
        self._cache = cache
        self._follower = follower

    def vectors_of(self, conn: Connection, user_ref: int, model: int) -> Vectors | None:
        """All of a model's vectors of a user; None when they are too many to be compared one by one."""
        return self._cache.of_user(conn, user_ref, model, EXACT_USER)

    def find(
        self,
        conn: Connection,
        scope: Scope,
        model: int,
        held: Vectors | None,
        vector: NDArray[np.float32],
        matched: tuple[Refs, Parts],
    ) -> Candidates:
        """All that can be compared; of more what is nearest, what fits best by words, and all that have all of them.

        `model`: whose vectors; `held`: all vectors of the scope's user, if it has one; `matched`: what has any of the
        query's words, in rising order, with its lexical part.
        """
        if scope.filter == Filter():
            if held is not None:
                return _together(conn, [_compare(held, vector)], matched[0], matched)
            return self._nearest(conn, scope, model, vector, matched)
        if held is not None:
            allowed = np.sort(interactions.refs(conn, scope))
            kept = np.isin(held.refs, allowed)
            refs, cosines, threads = _compare(held, vector)
            compared = refs[kept], cosines[kept], threads[kept]
        else:
            allowed = np.sort(interactions.refs(conn, scope, EXACT_FILTERED + 1))
            if len(allowed) > EXACT_FILTERED:
                return self._nearest(conn, scope, model, vector, matched)
            compared = _compare(vectors.of_refs(conn, allowed.tolist(), model), vector)
        return _together(conn, [compared], matched[0][np.isin(matched[0], allowed)], matched)

    def _nearest(
        self,
        conn: Connection,
        scope: Scope,
        model: int,
        vector: NDArray[np.float32],
        matched: tuple[Refs, Parts],
    ) -> Candidates:
        """By Chroma, with what it does not have yet, and the best matches by words."""
        compared: list[Compared] = []
        collection = collections.live_collection(conn, scope.account_id, model)
        applied = 0
        fetched, enough = NEAREST, False
        while collection is not None and not enough:
            found = self._follower.query(collection, vector, fetched, scope.user_ref)
            if found is None:
                break
            stamps, cosines = found
            near = vectors.refs_of_stamps(conn, scope.account_id, stamps)
            kept = (near > 0) & _passes(conn, scope, near)
            enough = kept.sum() >= NEAREST or len(stamps) < fetched or fetched >= MOST_FETCHED
            fetched = min(GROWTH * fetched, MOST_FETCHED)
            if enough:
                applied, near = collection.applied, near[kept]
                compared.append((near, cosines[kept], interactions.threads(conn, near.tolist())))
        tail, behind = self._tail(conn, scope, model, applied)
        compared.append(_compare(tail, vector))
        words = self._best_matches(conn, scope, matched)
        unread = words[~np.isin(words, np.concatenate([refs for refs, *_ in compared]))][:EXACT_FILTERED]
        compared.append(_compare(vectors.of_refs(conn, unread.tolist(), model), vector))
        return _together(conn, compared, words, matched, behind)

    def _tail(self, conn: Connection, scope: Scope, model: int, applied: int) -> tuple[Vectors, int]:
        """What Chroma does not have yet, as far as it can be compared, and how many are left over."""
        tail = vectors.after(conn, scope.account_id, model, applied, TAIL)
        behind = 0
        if len(tail.stamps) == TAIL:
            behind = vectors.count_after(conn, scope.account_id, model, int(tail.stamps[-1]))
        if scope.user_ref is not None:
            tail = tail.where(tail.users == scope.user_ref)
        if scope.filter != Filter():  # else it would be copied for nothing
            tail = tail.where(_passes(conn, scope, tail.refs))
        return tail, behind

    def _best_matches(self, conn: Connection, scope: Scope, matched: tuple[Refs, Parts]) -> Refs:
        """In the scope all that have all the words, and of the others the best, WORD_MATCHES at least; best first.

        Equal ones are taken newest stored first.
        """
        refs, parts = matched
        best = np.lexsort((-refs, -parts))
        whole = int(np.count_nonzero(parts == 1))
        if scope.filter != Filter():
            best = best[: max(MOST_FETCHED, whole)]
            best = best[_passes(conn, scope, refs[best])]
            whole = int(np.count_nonzero(parts[best] == 1))
        return refs[best[: max(WORD_MATCHES, whole)]]


def _passes(conn: Connection, scope: Scope, refs: Refs) -> NDArray[np.bool_]:
    """Which of these rows the scope's filter lets through."""
    if scope.filter == Filter():
        return np.ones(len(refs), dtype=bool)
    return np.isin(refs, interactions.passing(conn, scope, refs.tolist()))


def _compare(given: Vectors, vector: NDArray[np.float32]) -> Compared:
    return given.refs, given.cosines(vector), given.threads


def _together(
    conn: Connection, compared: list[Compared], words: Refs, matched: tuple[Refs, Parts], behind: int = 0
) -> Candidates:
    """What was compared, and `words`, which were found by them and may wait for their vectors."""
    refs, cosines, threads = (np.concatenate(column) for column in zip(*compared, strict=True))
    unseen = words[~np.isin(words, refs)]
    if len(unseen):
        refs, cosines = np.append(refs, unseen), np.append(cosines, np.zeros(len(unseen), dtype=np.float32))
        threads = np.append(threads, interactions.threads(conn, unseen.tolist()))
    found, semantic = ranking.best_per_interaction(refs, cosines)
    lexical, thread_of = np.zeros(len(found)), np.zeros(len(found), dtype=np.int64)
    thread_of[np.searchsorted(found, refs)] = threads
    at = np.searchsorted(found, matched[0])
    there = at < len(found)
    there[there] = found[at[there]] == matched[0][there]
    lexical[at[there]] = matched[1][there]
    return Candidates(found, semantic, lexical, thread_of, behind)
