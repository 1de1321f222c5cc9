"""Candidates of a search: all of a part that can be compared one by one, else what the index finds nearest.

Which they are never hangs on how many hits are wanted: the best ten of a search are the first ten of its best hundred.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.core.embedders import Embedders
from reflexio_server.core.following import Follower
from reflexio_server.core.query_words import search_words, without_everyday_words
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.model import Filter
from reflexio_server.stages import stage
from reflexio_server.storage import collections, full_text, interactions, vectors, waiting
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.standing import Standing
from reflexio_server.storage.vectors import Matrix, Rows, Vectors

EXACT_USER = 100_000  # up to so many vectors of one user are compared one by one: 3.4 ms, and nothing is missed
EXACT_ACCOUNT = 5_000  # the same for a whole account, which has no collection then
EXACT_FILTERED = 20_000  # the same for a filtered set of a whole account
NEAREST = 1_000  # how many the index is asked for: as many as may be wanted
MOST_FETCHED = 20_000  # how many are asked of it at most, and how many matches by words are put to the filter
GROWTH = 10  # how many times more is asked when a filter dropped too many
WORD_MATCHES = 1_000  # matches by words, the best, that are ranked beside what the index finds
WHOLE_MATCHES = 20_000  # the same of those that have all the words
TAIL = 20_000  # vectors that the index does not have yet and that are compared one by one

Refs = NDArray[np.int64]
Parts = NDArray[np.float64]
Compared = tuple[Rows, Matrix]
"""Rows of vectors, and the cosine of each with the query's."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows of vectors with their cosines, 0 where one has none yet; an interaction may come several times.

    `matched`: what has any of the query's words, in rising order, with its lexical part; `unindexed`: how many in the
    scope could not be compared, as they wait for their vectors or the index does not have them yet.
    """

    rows: Rows
    cosines: Matrix
    matched: tuple[Refs, Parts]
    unindexed: int


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds the candidates of one search at a time: all that is asked of the database and the index is asked here."""

    cache: VectorCache
    follower: Follower
    embedders: Embedders

    def find(self, conn: Connection, scope: Scope, of: Standing, query: str) -> Candidates:
        """All that can be compared; of more what is nearest, what fits best by words, and what has all of them."""
        held = self.cache.get(conn, of, EXACT_ACCOUNT if of.user_ref is None else EXACT_USER)
        texts = _count_of_texts(conn, of, held)
        words = search_words(query)
        matches = full_text.refs_with_words(conn, of.account_id, of.user_ref, words)
        counts = {word: len(match) for word, match in zip(words, matches, strict=True)}
        vector = self._embedded(of, query, without_everyday_words(query, texts, counts) if of.user_ref else query)
        matched = ranking.lexical_parts(matches, texts)
        unfiltered = scope.filter == Filter()

        unindexed = of.waiting if unfiltered else waiting.count_in(conn, scope)
        compared: list[Compared]
        chosen, behind = matched[0], 0
        if unfiltered and held is not None:
            compared = [(held.rows, held.cosines(vector))]
        elif not unfiltered and (allowed := _allowed(conn, scope, held)) is not None:
            those = vectors.of_refs(conn, allowed, of.model) if held is None else held
            kept = np.isin(those.rows["ref"], allowed)
            compared = [(those.rows[kept], those.cosines(vector)[kept])]
            chosen = chosen[np.isin(chosen, allowed)]
        else:
            compared, behind = self._nearest(conn, scope, of.model, vector)
            chosen = _best_matches(conn, scope, matched)
            unread = chosen[~np.isin(chosen, np.concatenate([rows["ref"] for rows, _ in compared]))]
            read = vectors.of_refs(conn, unread, of.model)
            compared.append((read.rows, read.cosines(vector)))
        rows, cosines = (np.concatenate(column) for column in zip(*compared, strict=True))
        unseen = chosen[~np.isin(chosen, rows["ref"])]  # they may wait for their vectors
        if len(unseen):
            rows = np.append(rows, vectors.rows_of_refs(conn, unseen))
            cosines = np.append(cosines, np.zeros(len(unseen), dtype=np.float32))
        return Candidates(rows, cosines, matched, unindexed + behind)

    def _embedded(self, of: Standing, query: str, telling: str) -> Matrix:
        """The vector of what is telling of a query, or of all of it where the model knows nothing of that."""
        with stage("embed"):
            embedder = self.embedders.of(of.model)
            vector = embedder.embed_query(telling)
            return vector if telling == query or vector.any() else embedder.embed_query(query)

    def _nearest(self, conn: Connection, scope: Scope, model: int, vector: Matrix) -> tuple[list[Compared], int]:
        """What is nearest by the index, with what it does not have yet, and how many of these are passed over."""
        compared: list[Compared] = []
        collection = collections.live_collection(conn, scope.account_id, model)
        applied = 0
        fetched, enough = NEAREST, False
        while collection is not None and not enough:
            found = self.follower.query(collection, vector, fetched, scope.user_ref)
            if found is None:
                break
            stamps, cosines = found
            near = vectors.rows_of_stamps(conn, scope.account_id, stamps)
            kept = (near["ref"] > 0) & _passes(conn, scope, near["ref"])
            enough = kept.sum() >= NEAREST or len(stamps) < fetched or fetched >= MOST_FETCHED
            fetched = min(GROWTH * fetched, MOST_FETCHED)
            if enough:
                applied = collection.applied
                compared.append((near[kept], cosines[kept]))
        tail, behind = _tail(conn, scope, model, applied)
        compared.append((tail.rows, tail.cosines(vector)))
        return compared, behind


def _count_of_texts(conn: Connection, of: Standing, held: Vectors | None) -> int:
    """How many texts the user or account has: what the rarity of a word is measured by.

    Where there are too many to be counted each time, interactions without text count too.
    """
    if of.user_ref is None:
        return of.interactions
    return interactions.count_of_user(conn, of.user_ref) if held is None else held.interactions + of.waiting


def _allowed(conn: Connection, scope: Scope, held: Vectors | None) -> Refs | None:
    """What the filter lets through; None where that is too much to be compared one by one."""
    allowed = interactions.refs(conn, scope, None if held is not None else EXACT_FILTERED + 1)
    return None if held is None and len(allowed) > EXACT_FILTERED else allowed


def _tail(conn: Connection, scope: Scope, model: int, applied: int) -> tuple[Vectors, int]:
    """What the index does not have yet, as far as it can be compared, and how many are left over."""
    tail = vectors.after(conn, scope.account_id, model, applied, TAIL)
    behind = vectors.count_after(conn, scope.account_id, model, tail.newest) if len(tail) == TAIL else 0
    if scope.user_ref is not None:
        tail = tail.where(tail.rows["user"] == scope.user_ref)
    if scope.filter != Filter():  # else it would be copied for nothing
        tail = tail.where(_passes(conn, scope, tail.rows["ref"]))
    return tail, behind


def _best_matches(conn: Connection, scope: Scope, matched: tuple[Refs, Parts]) -> Refs:
    """The best WORD_MATCHES in the scope, and up to WHOLE_MATCHES where so many have all the words; best first."""
    refs, parts = matched
    if scope.filter != Filter():
        best = ranking.first(refs, parts, MOST_FETCHED)
        passing = best[_passes(conn, scope, refs[best])]
        refs, parts = refs[passing], parts[passing]
    whole = int(np.count_nonzero(parts == 1))
    return refs[ranking.first(refs, parts, min(max(WORD_MATCHES, whole), WHOLE_MATCHES))]


def _passes(conn: Connection, scope: Scope, refs: Refs) -> NDArray[np.bool_]:
    if scope.filter == Filter():
        return np.ones(len(refs), dtype=bool)
    return np.isin(refs, interactions.passing(conn, scope, refs.tolist()))
