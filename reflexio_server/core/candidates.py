"""Candidates of a search: all of a part that can be compared one by one, else what Chroma finds nearest."""

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
EXACT_FILTERED = 20_000  # the same for a filtered set of a whole account
MOST_FETCHED = 20_000  # how many are asked of Chroma at most, and how many matches by words are put to the filter
GROWTH = 10  # how many times more is asked when a filter dropped too many
WORD_MATCHES = 1_000  # matches by words, the best, that are ranked beside what Chroma finds
TAIL = 20_000  # vectors that Chroma does not have yet and that are compared one by one

Refs = NDArray[np.int64]
Parts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Interactions in rising order of `refs`, with their semantic and lexical parts.

    `behind`: how many with a vector were passed over, as Chroma does not have them yet.
    """

    refs: Refs
    semantic: Parts
    lexical: Parts
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
        count: int,
    ) -> Candidates:
        """All that can be compared, or about the best `count` of more.

        `model`: whose vectors; `held`: all vectors of the scope's user, if it has one; `matched`: what has any of the
        query's words, in rising order, with its lexical part.
        """
        if scope.filter == Filter():
            if held is not None:
                return _together(held.refs, held.cosines(vector), *matched)
            return self._nearest(conn, scope, model, vector, matched, count)
        if held is not None:
            allowed = np.sort(interactions.refs(conn, scope))
            kept = np.isin(held.refs, allowed)
            return _together(held.refs[kept], held.cosines(vector)[kept], *_among(matched, allowed))
        allowed = np.sort(interactions.refs(conn, scope, EXACT_FILTERED + 1))
        if len(allowed) > EXACT_FILTERED:
            return self._nearest(conn, scope, model, vector, matched, count)
        stored = vectors.of_refs(conn, allowed.tolist(), model)
        return _together(stored.refs, stored.cosines(vector), *_among(matched, allowed))

    def _nearest(
        self,
        conn: Connection,
        scope: Scope,
        model: int,
        vector: NDArray[np.float32],
        matched: tuple[Refs, Parts],
        count: int,
    ) -> Candidates:
        """By Chroma, with what it does not have yet, and the best matches by words."""
        matched = self._best_matches(conn, scope, matched)
        by_words = vectors.of_refs(conn, matched[0].tolist(), model)
        collection = collections.live_collection(conn, scope.account_id, model)
        applied, refs, cosines = 0, by_words.refs, by_words.cosines(vector)
        fetched, enough = count, False
        while collection is not None and not enough:
            found = self._follower.query(collection, vector, fetched, scope.user_ref)
            if found is None:
                break
            stamps, nearest = found
            by_stamp = vectors.refs_of_stamps(conn, scope.account_id, stamps)
            near = np.array([by_stamp.get(stamp, 0) for stamp in stamps], dtype=np.int64)
            kept = (near > 0) & _passes(conn, scope, near)
            enough = kept.sum() >= count or len(stamps) < fetched or fetched >= MOST_FETCHED
            fetched = min(GROWTH * fetched, MOST_FETCHED)
            if enough:
                applied = collection.applied
                refs, cosines = np.append(refs, near[kept]), np.append(cosines, nearest[kept])
        tail, behind = self._tail(conn, scope, model, applied)
        refs, cosines = np.append(refs, tail.refs), np.append(cosines, tail.cosines(vector))
        return _together(refs, cosines, *matched, behind)

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

    def _best_matches(self, conn: Connection, scope: Scope, matched: tuple[Refs, Parts]) -> tuple[Refs, Parts]:
        """The WORD_MATCHES best in the scope; equal ones are taken newest stored first."""
        refs, parts = matched
        best = np.lexsort((-refs, -parts))
        if scope.filter != Filter():
            best = best[:MOST_FETCHED]
            best = best[_passes(conn, scope, refs[best])]
        best = np.sort(best[:WORD_MATCHES])
        return refs[best], parts[best]


def _passes(conn: Connection, scope: Scope, refs: Refs) -> NDArray[np.bool_]:
    """Which of these rows the scope's filter lets through."""
    if scope.filter == Filter():
        return np.ones(len(refs), dtype=bool)
    return np.isin(refs, interactions.passing(conn, scope, refs.tolist()))


def _together(refs: Refs, cosines: NDArray[np.float32], matched: Refs, lexical: Parts, behind: int = 0) -> Candidates:
    """Both kinds of candidates; those that match and wait for their vectors are found by their words alone."""
    refs, semantic = ranking.best_per_interaction(
        np.append(refs, matched), np.append(cosines, np.zeros(len(matched), dtype=np.float32))
    )
    aligned = np.zeros(len(refs))
    aligned[np.searchsorted(refs, matched)] = lexical
    return Candidates(refs, semantic, aligned, behind)


def _among(matched: tuple[Refs, Parts], allowed: Refs) -> tuple[Refs, Parts]:
    kept = np.isin(matched[0], allowed)
    return matched[0][kept], matched[1][kept]
