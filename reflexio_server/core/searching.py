"""Finding interactions: candidates by meaning and by words from one snapshot, ranked together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.core.following import Follower
from reflexio_server.core.indexing import Indexer
from reflexio_server.core.listing import PAGE_BYTES, size_of
from reflexio_server.index.embedder import Embedder
from reflexio_server.model import Filter, Hit, Identity, PageItem, SearchQuery
from reflexio_server.storage import interactions, sqlite, vectors
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import Scope

EXACT_USER = 100_000  # up to so many vectors of one user are compared one by one: 3.4 ms, and nothing is missed
EXACT_FILTERED = 20_000  # the same for a filtered set of a whole account
POOL = 200  # how many candidates have their threads looked at, at least
OVERFETCH = 10  # how many times more is asked of Chroma when a filter will drop some
WORD_MATCHES = 1_000  # matches by words that are ranked when no filter will drop some
TAIL = 20_000  # vectors that Chroma does not have yet and that are compared one by one

_ABRIDGED_BYTES = 700  # a hit with its ids only: at most 36 + 256 + 256 bytes of ids, four numbers and tags


@dataclass(frozen=True, slots=True)
class FoundHit:
    """A hit with its interaction; `item` None: the response had no room for more than its ids."""

    hit: Hit
    identity: Identity
    item: PageItem | None


@dataclass(frozen=True, slots=True)
class Found:
    """The hits, best first, and how many interactions in the searched part wait for their vectors."""

    hits: list[FoundHit]
    unindexed_count: int


class Searcher:
    """Searches one account at a time.

    A search sees all that was acknowledged before it: by words in any case, by meaning as far as the asked user's
    vectors can be made within `freshness_seconds`; what is left is counted in the answer.
    """

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        indexer: Indexer,
        follower: Follower,
        freshness_seconds: float,
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._indexer = indexer
        self._follower = follower
        self._freshness_seconds = freshness_seconds

    def search(self, account_id: int, query: SearchQuery, include_images: bool, deadline: float) -> Found:
        """The best hits; without a query the newest. `deadline`: when the caller stops waiting (time.monotonic)."""
        if query.user_id is not None and query.query:
            fresh_by = min(deadline, time.monotonic() + self._freshness_seconds)
            self._indexer.index_user(account_id, query.user_id, fresh_by)
        with self._database.read() as conn:
            user_ref = None
            if query.user_id is not None:
                user_ref = interactions.user_ref(conn, account_id, query.user_id)
                if user_ref is None:
                    return Found([], 0)
            scope = Scope(account_id, user_ref, query.filter)
            if query.query:
                hits, unindexed = self._best(conn, scope, query)
            else:
                hits = [Hit(int(ref)) for ref in interactions.refs(conn, scope, query.top_k)]
                unindexed = 0
            return Found(_read(conn, account_id, hits, include_images), unindexed)

    def _best(self, conn: Connection, scope: Scope, query: SearchQuery) -> tuple[list[Hit], int]:
        unindexed = interactions.count_waiting(conn, scope)
        vector = self._embedder.embed_query(self._to_embed(conn, scope, query.query))
        allowed = None if scope.filter == Filter() else interactions.refs(conn, scope)

        most = WORD_MATCHES if allowed is None else EXACT_USER
        words = ranking.search_words(query.query)
        matches = sqlite.match_words(conn, scope.account_id, scope.user_ref, words, most) if words else []
        lexical = {ref: ranking.lexical_part(score) for ref, score in matches}

        pool = max(POOL, 2 * query.top_k)
        refs, semantic, behind = self._by_meaning(conn, scope, allowed, vector, list(lexical), pool)
        if allowed is not None:
            keep = np.isin(refs, allowed)
            refs, semantic = refs[keep], semantic[keep]
        hits = ranking.rank(refs, semantic, lexical, pool)
        hits = ranking.with_threads(hits, interactions.threads(conn, [hit.ref for hit in hits]))
        hits = [hit for hit in hits if hit.score >= query.min_score]
        return hits[: query.top_k], unindexed + behind

    def _to_embed(self, conn: Connection, scope: Scope, query: str) -> str:
        if scope.user_ref is None:
            return query
        return ranking.without_everyday_words(
            query,
            interactions.count_of_user(conn, scope.user_ref),
            lambda word: sqlite.count_with_word(conn, scope.account_id, scope.user_ref, word),
        )

    def _by_meaning(
        self,
        conn: Connection,
        scope: Scope,
        allowed: NDArray[np.int64] | None,
        vector: NDArray[np.float32],
        matched: Sequence[int],
        pool: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], int]:
        """Candidates with their semantic part, those `matched` by words among them, and how many were passed over."""
        model = self._indexer.model
        behind = 0
        if scope.user_ref is not None and vectors.count_of_user(conn, scope.user_ref, model) <= EXACT_USER:
            refs, cosines = _compare(vectors.of_user(conn, scope.user_ref, model), vector)
        elif allowed is not None and len(allowed) <= EXACT_FILTERED:
            refs, cosines = _compare(vectors.of_refs(conn, allowed.tolist(), model), vector)
        else:
            count = pool if allowed is None else OVERFETCH * pool
            refs, cosines, behind = self._by_chroma(conn, scope, vector, count)
            of_matched = _compare(vectors.of_refs(conn, list(matched), model), vector)
            refs, cosines = np.append(refs, of_matched[0]), np.append(cosines, of_matched[1])
        # Matched rows that wait for their vectors are candidates by their words alone.
        without = np.array(matched, dtype=np.int64)
        refs, cosines = np.append(refs, without), np.append(cosines, np.zeros(len(without), np.float32))
        return *ranking.best_per_interaction(refs, cosines), behind

    def _by_chroma(
        self, conn: Connection, scope: Scope, vector: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """The nearest by the account's collection, with what it does not have yet compared one by one."""
        model = self._indexer.model
        collection = vectors.live_collection(conn, scope.account_id, model)
        found = None
        if collection is not None:
            found = self._follower.query(collection, vector, count, scope.user_ref)
        applied = collection.applied if collection is not None and found is not None else 0
        tail = vectors.after(conn, scope.account_id, model, applied, TAIL)
        refs, cosines = _compare(tail, vector)
        behind = 0
        if len(tail.stamps) == TAIL:
            behind = vectors.count_after(conn, scope.account_id, model, int(tail.stamps[-1]))
        if found is not None:
            stamps, nearest = found
            by_stamp = vectors.refs_of_stamps(conn, scope.account_id, stamps)
            there = np.array([stamp in by_stamp for stamp in stamps], dtype=bool)
            refs = np.append(refs, [by_stamp[stamp] for stamp in stamps if stamp in by_stamp]).astype(np.int64)
            cosines = np.append(cosines, nearest[there])
        return refs, cosines, behind


def _compare(stored: vectors.Vectors, vector: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    if not len(stored.refs):
        return stored.refs, np.zeros(0, dtype=np.float32)
    return stored.refs, stored.matrix @ vector


def _read(conn: Connection, account_id: int, hits: list[Hit], include_images: bool) -> list[FoundHit]:
    """The hits with their interactions, the first of them in full as far as a response has room."""
    refs = [hit.ref for hit in hits]
    identities = interactions.identities(conn, account_id, refs)
    hits = [hit for hit in hits if hit.ref in identities]
    rows = interactions.by_refs(conn, account_id, [hit.ref for hit in hits])
    room = PAGE_BYTES - _ABRIDGED_BYTES * len(hits)
    found: list[FoundHit] = []
    for hit in hits:
        item: PageItem | None = None
        if room > 0:
            row = next(rows)
            room -= size_of(row)
            data = None
            if include_images and row.image and row.image.size_bytes <= room:
                data = interactions.image_data(conn, account_id, row.image.sha256)
                room -= len(data)
            if room > 0:
                omitted = include_images and row.image is not None and data is None
                item = PageItem(row, data, image_omitted=omitted)
        found.append(FoundHit(hit, identities[hit.ref], item))
    return found
