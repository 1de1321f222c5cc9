"""Candidates of a search: all of a part that can be compared one by one, else what Chroma finds nearest.

Which they are never hangs on how many hits are wanted: the best ten of a search are the first ten of its best hundred.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.core.embedders import Embedders, NumberedEmbedder
from reflexio_server.core.following import Follower
from reflexio_server.core.query_words import search_words, without_everyday_words
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.model import Filter
from reflexio_server.stages import stage
from reflexio_server.storage import collections, full_text, interactions, vectors, waiting
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
    """Interactions with the cosine of a vector of each and the numbers of their threads; one may come several times.

    `matched`: what has any of the query's words, in rising order, with its lexical part; `unindexed`: how many in the
    scope could not be compared, as they wait for their vectors or Chroma does not have them yet.
    """

    refs: Refs
    cosines: NDArray[np.float32]
    threads: Refs
    matched: tuple[Refs, Parts]
    unindexed: int


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds the candidates of one search at a time: all that is asked of the database and the index is asked here."""

    cache: VectorCache
    follower: Follower
    embedders: Embedders

    def find(self, conn: Connection, scope: Scope, query: str) -> Candidates:
        """All that can be compared; of more what is nearest, what fits best by words, and all that have all of them."""
        unindexed = waiting.count_in(conn, scope)
        embedder = self.embedders.live(conn)
        held = None
        if scope.user_ref is not None:  # None too where there are too many to be compared one by one
            held = self.cache.of_user(conn, scope.user_ref, embedder.number, EXACT_USER)
        texts = _count_of_texts(conn, scope, held, unindexed)
        words = search_words(query)
        matches = full_text.refs_with_words(conn, scope.account_id, scope.user_ref, words)
        counts = {word: len(match) for word, match in zip(words, matches, strict=True)}
        telling = query if scope.user_ref is None else without_everyday_words(query, texts, counts)
        vector = _embedded(embedder, query, telling)
        matched = ranking.lexical_parts(matches, texts)

        behind, chosen = 0, matched[0]
        if scope.filter == Filter() and held is not None:
            compared = [_compare(held, vector)]
        elif scope.filter != Filter() and (allowed := self._allowed(conn, scope, held)) is not None:
            those = vectors.of_refs(conn, allowed.tolist(), embedder.number) if held is None else held
            refs, cosines, threads = _compare(those, vector)
            kept = np.isin(refs, allowed)
            compared = [(refs[kept], cosines[kept], threads[kept])]
            chosen = chosen[np.isin(chosen, allowed)]
        else:
            compared, behind = self._nearest(conn, scope, embedder.number, vector)
            chosen = self._best_matches(conn, scope, matched)
            unread = chosen[~np.isin(chosen, np.concatenate([refs for refs, *_ in compared]))][:EXACT_FILTERED]
            compared.append(_compare(vectors.of_refs(conn, unread.tolist(), embedder.number), vector))
        refs, cosines, threads = (np.concatenate(column) for column in zip(*compared, strict=True))
        unseen = chosen[~np.isin(chosen, refs)]  # they may wait for their vectors
        if len(unseen):
            refs, cosines = np.append(refs, unseen), np.append(cosines, np.zeros(len(unseen), dtype=np.float32))
            threads = np.append(threads, interactions.threads(conn, unseen.tolist()))
        return Candidates(refs, cosines, threads, matched, unindexed + behind)

    def _allowed(self, conn: Connection, scope: Scope, held: Vectors | None) -> Refs | None:
        """What the filter lets through; None where that is too much to be compared one by one."""
        allowed = interactions.refs(conn, scope, None if held is not None else EXACT_FILTERED + 1)
        return None if held is None and len(allowed) > EXACT_FILTERED else allowed

    def _nearest(
        self, conn: Connection, scope: Scope, model: int, vector: NDArray[np.float32]
    ) -> tuple[list[Compared], int]:
        """What is nearest by Chroma, with what it does not have yet, and how many of these are passed over."""
        compared: list[Compared] = []
        collection = collections.live_collection(conn, scope.account_id, model)
        applied = 0
        fetched, enough = NEAREST, False
        while collection is not None and not enough:
            found = self.follower.query(collection, vector, fetched, scope.user_ref)
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
        return compared, behind

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
    if scope.filter == Filter():
        return np.ones(len(refs), dtype=bool)
    return np.isin(refs, interactions.passing(conn, scope, refs.tolist()))


def _compare(given: Vectors, vector: NDArray[np.float32]) -> Compared:
    return given.refs, given.cosines(vector), given.threads


def _embedded(embedder: NumberedEmbedder, query: str, telling: str) -> NDArray[np.float32]:
    """The vector of what is telling of a query, or of all of it where the model knows nothing of that."""
    with stage("embed"):
        vector = embedder.embedder.embed_query(telling)
        return vector if telling == query or vector.any() else embedder.embedder.embed_query(query)


def _count_of_texts(conn: Connection, scope: Scope, held: Vectors | None, unindexed: int) -> int:
    """How many texts the user or account has: what the rarity of a word is measured by.

    Where there are too many to be counted each time, interactions without text count too.
    """
    if scope.user_ref is None:
        return interactions.count_of_account(conn, scope.account_id)
    if held is None:
        return interactions.count_of_user(conn, scope.user_ref)
    if scope.filter != Filter():
        unindexed = waiting.count_in(conn, Scope(scope.account_id, scope.user_ref))
    return held.interactions + unindexed
