"""Candidates of a search: all of a part that can be compared one by one, else what the index finds nearest.

Which they are never hangs on how many hits are wanted: the best ten of a search are the first ten of its best hundred.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.core.embedders import Embedders
from reflexio_server.core.index_access import IndexAccess
from reflexio_server.core.query_words import search_words, without_everyday_words
from reflexio_server.core.ranking import Named
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.core.word_matches import WordMatches
from reflexio_server.index.embedder import Embedder, Scale
from reflexio_server.model import Filter, Hit
from reflexio_server.stages import stage
from reflexio_server.storage import collections, facts, interactions, vectors, waiting
from reflexio_server.storage.facts import Rows, Texts
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.standing import Standing
from reflexio_server.storage.vectors import Matrix, Vectors

EXACT_USER = 100_000  # up to so many vectors of one user are compared one by one: 3.4 ms, and nothing is missed
EXACT_FILTERED = 20_000  # the same for a filtered set of a whole account
NEAREST = 1_000  # how many the index is asked for: as many as may be wanted
MOST_FETCHED = 20_000  # how many are asked of it at most, and how many matches by words are put to the filter
GROWTH = 10  # how many times more is asked when a filter dropped too many
WORD_MATCHES = 1_000  # matches by words, the best, that are ranked beside what the index finds
WHOLE_MATCHES = 1_000  # the same of those that have all the words, the newest: as many as may be wanted
WHOLE_FETCHED = 20_000  # how many of those are put to the filter
WORD_ROWS = 10_000  # rows of a word that are listed where not all can be compared one by one
WITH_NEIGHBOURS = 100  # of what the index and the words find the best, beside which in their threads is looked too
TAIL = 20_000  # vectors that the index does not have yet and that are compared one by one

Refs = NDArray[np.int64]
Compared = tuple[Rows, Matrix]
"""Rows of vectors, and the cosine of each with the query's."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Interactions with the cosines of their rows, 0 where one has no vector yet.

    `scale`: what the model's cosines mean; `words`: what each has of the query's words; `unindexed`: how many in the
    scope could not be compared, as they wait for their vectors or the index does not have them yet.
    """

    texts: Texts
    cosines: Matrix
    scale: Scale
    words: WordMatches
    unindexed: int

    def best(self, conn: Connection, count: int, named: Named, least: float) -> list[Hit]:
        """The best hits, see `ranking.rank`; what is not known of the words that decide it is looked up."""
        semantic = ranking.semantic_parts(self.texts, self.cosines, self.scale)
        ahead = 1
        while True:
            lexical = self.words.parts(self.texts.refs)
            hits = ranking.rank(self.texts, semantic, lexical, ahead * count, named, least)
            if self.words.is_all:
                return hits
            base = ranking.base_of(semantic, lexical)
            if self.words.know(ranking.leading(self.texts, base, hits[:count])):
                return hits[:count]
            ahead *= 2  # what is looked up brings others forward, which are mostly among the next ones
            self.words.look_up(conn, ranking.leading(self.texts, base, hits))


@dataclass(frozen=True, eq=False)
class Finder:
    """Finds the candidates of one search at a time: all that is asked of the database and the index is asked here."""

    cache: VectorCache
    index: IndexAccess
    embedders: Embedders

    def find(self, conn: Connection, scope: Scope, of: Standing, query: str, deadline: float) -> Candidates:
        """All that can be compared; of more what is nearest, what fits best by words, and what has all of them.

        An index that does not answer by the deadline (time.monotonic) is done without.
        """
        most = collections.EXACT_ACCOUNT if of.user_ref is None else EXACT_USER
        held = self.cache.get(conn, of, most) if of.count + of.waiting <= most else None
        count = _count_of_texts(conn, of, held)
        words = WordMatches(conn, of, search_words(query), WORD_ROWS if held is None else EXACT_USER)
        words.weigh(count)
        telling = query if of.user_ref is None else without_everyday_words(query, count, words.counts)
        embedder = self.embedders.of(conn, of.model)
        vector = self._embedded(embedder, query, telling)
        unfiltered = scope.filter == Filter()

        scale = embedder.scale
        unindexed = of.waiting if unfiltered else waiting.count_in(conn, scope)
        allowed = None if unfiltered else _allowed(conn, scope, held)
        if held is not None:
            those = held
        elif allowed is not None:
            those = vectors.of_refs(conn, allowed, of.model)
        else:
            texts, cosines, behind = self._of_index(conn, scope, of.model, words, vector, scale, deadline)
            return Candidates(texts, cosines, scale, words, unindexed + behind)
        rows, cosines, chosen = those.rows, those.cosines(vector), words.refs
        if allowed is not None:
            kept = np.isin(rows["ref"], allowed)
            rows, cosines, chosen = rows[kept], cosines[kept], chosen[np.isin(chosen, allowed)]
        texts = those.texts if unfiltered else Texts.of(rows)
        unseen = _missing(chosen, texts.refs)
        if len(unseen):
            rows, cosines = _with_unseen(conn, rows, cosines, unseen)
            texts = Texts.of(rows)
        return Candidates(texts, cosines, scale, words, unindexed)

    def _embedded(self, embedder: Embedder, query: str, telling: str) -> Matrix:
        """The vector of what is telling of a query, or of all of it where the model knows nothing of that."""
        with stage("embed"):
            vector = embedder.embed_query(telling)
            return vector if telling == query or vector.any() else embedder.embed_query(query)

    def _of_index(
        self,
        conn: Connection,
        scope: Scope,
        model: int,
        words: WordMatches,
        vector: Matrix,
        scale: Scale,
        deadline: float,
    ) -> tuple[Texts, Matrix, int]:
        """What is nearest and what fits best by words, with what stands beside the best of these in their threads, and
        how many are passed over."""
        compared, behind = self._nearest(conn, scope, model, vector, deadline)
        matches = _best_matches(conn, scope, words)
        rows, cosines = _with(conn, compared, matches, model, vector)
        texts = Texts.of(rows)
        semantic = ranking.semantic_parts(texts, cosines, scale)
        base = ranking.base_of(semantic, words.parts(texts.refs))
        best = texts.refs[ranking.first(texts.refs, base, WITH_NEIGHBOURS)]
        pairs = facts.neighbours(conn, best)
        others = np.unique(np.concatenate(pairs))
        others = others[_passes(conn, scope, others)]
        rows, cosines = _with(conn, [(rows, cosines)], others, model, vector)
        first, second = (both[np.isin(both, others).all(axis=1)] for both in pairs)
        return Texts.of(rows, (first, second)), cosines, behind

    def _nearest(
        self, conn: Connection, scope: Scope, model: int, vector: Matrix, deadline: float
    ) -> tuple[list[Compared], int]:
        """What is nearest by the index, with what it does not have yet, and how many of these are passed over."""
        compared: list[Compared] = []
        collection = collections.live_collection(conn, scope.account_id, model)
        applied = 0
        fetched, enough = NEAREST, False
        by = min(deadline, time.monotonic() + self.index.query_seconds)
        while collection is not None and not enough:
            seconds = max(0.0, by - time.monotonic())
            found = self.index.query(collection, vector, fetched, scope.user_ref, seconds)
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
    return interactions.count_of_user(conn, of.user_ref) if held is None else len(held.texts) + of.waiting


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


def _best_matches(conn: Connection, scope: Scope, words: WordMatches) -> Refs:
    """In the scope the newest that have all the words, and the best of the others that are listed."""
    unfiltered = scope.filter == Filter()
    whole = words.with_all(conn, WHOLE_MATCHES if unfiltered else WHOLE_FETCHED)
    others = words.refs[ranking.first(words.refs, words.known, WORD_MATCHES if unfiltered else MOST_FETCHED)]
    others = _missing(others, whole)
    whole, others = whole[_passes(conn, scope, whole)], others[_passes(conn, scope, others)]
    return np.append(whole[:WHOLE_MATCHES], others[:WORD_MATCHES])


def _passes(conn: Connection, scope: Scope, refs: Refs) -> NDArray[np.bool_]:
    if scope.filter == Filter():
        return np.ones(len(refs), dtype=bool)
    return np.isin(refs, interactions.passing(conn, scope, refs.tolist()))


def _with(conn: Connection, compared: Sequence[Compared], refs: Refs, model: int, vector: Matrix) -> Compared:
    """What was compared, and of these interactions those that were not."""
    rows, cosines = (np.concatenate(column) for column in zip(*compared, strict=True))
    read = vectors.of_refs(conn, _missing(refs, rows["ref"]), model)
    rows, cosines = np.append(rows, read.rows), np.append(cosines, read.cosines(vector))
    return _with_unseen(conn, rows, cosines, _missing(refs, rows["ref"]))


def _with_unseen(conn: Connection, rows: Rows, cosines: Matrix, unseen: Refs) -> Compared:
    """With interactions that have no vector, or none yet."""
    found = facts.of_refs(conn, unseen)
    return np.append(rows, found), np.append(cosines, np.zeros(len(found), dtype=np.float32))


def _missing(refs: Refs, there: Refs) -> Refs:
    """Those of `refs` that are not `there`: as np.isin finds them, in a fifth of its time where these are few."""
    if not len(there):
        return refs
    there = np.sort(there)
    at = np.searchsorted(there, refs)
    missing: Refs = refs[there[np.minimum(at, len(there) - 1)] != refs]
    return missing
