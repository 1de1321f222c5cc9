"""Finding interactions: candidates by meaning and by words from one snapshot, ranked together."""

import time
from dataclasses import dataclass

from sqlalchemy import Connection

from reflexio_server.core.candidates import Finder
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.listing import PAGE_BYTES, size_of
from reflexio_server.core.naming import named_in
from reflexio_server.model import Hit, Identity, PageItem, SearchQuery
from reflexio_server.stages import stage
from reflexio_server.storage import collections, interactions, standing
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.standing import Standing

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


@dataclass(frozen=True, eq=False)
class Searcher:
    """Searches one account at a time.

    A search sees all that was acknowledged before it: by words in any case, by meaning as far as the asked user's
    vectors can be made within `freshness_seconds`; what is left is counted in the answer.
    """

    database: Database
    vector_maker: VectorMaker
    finder: Finder
    freshness_seconds: float

    def search(self, account_id: int, query: SearchQuery, include_images: bool, deadline: float) -> Found:
        """The best hits; without a query the newest. `deadline`: when the caller stops waiting (time.monotonic)."""
        if not query.query:
            return self._newest(account_id, query, include_images)
        with self.database.read() as conn:
            of = _standing(conn, account_id, query.user_id)
            if of is None:
                return Found([], 0)
            if query.user_id is None or not of.waiting:
                return self._best(conn, of, query, include_images, deadline)
        with stage("index"):
            fresh_by = min(deadline, time.monotonic() + self.freshness_seconds)
            self.vector_maker.embed_user(account_id, query.user_id, fresh_by)
        with self.database.read() as conn:
            of = _standing(conn, account_id, query.user_id)
            return self._best(conn, of, query, include_images, deadline) if of else Found([], 0)

    def _best(self, conn: Connection, of: Standing, query: SearchQuery, include_images: bool, deadline: float) -> Found:
        scope = Scope(of.account_id, of.user_ref, query.filter)
        with stage("find"):
            found = self.finder.find(conn, scope, of, query.query, deadline)
            hits = found.best(conn, query.top_k, named_in(query, found.texts), query.min_score)
        with stage("read"):
            return Found(_read(conn, of.account_id, hits, include_images), found.unindexed)

    def _newest(self, account_id: int, query: SearchQuery, include_images: bool) -> Found:
        """The newest that pass the filter, which needs to know nothing of vectors and of what waits for them."""
        with self.database.read() as conn:
            user_ref = None
            if query.user_id is not None:
                user_ref = interactions.user_ref(conn, account_id, query.user_id)
                if user_ref is None:
                    return Found([], 0)
            refs = interactions.refs(conn, Scope(account_id, user_ref, query.filter), query.top_k)
            with stage("read"):
                return Found(_read(conn, account_id, [Hit(int(ref)) for ref in refs], include_images), 0)


def _standing(conn: Connection, account_id: int, user_id: str | None) -> Standing | None:
    if user_id is None:
        return standing.of_account(conn, account_id, collections.EXACT_ACCOUNT + 1)
    return standing.of_user(conn, account_id, user_id)


def _read(conn: Connection, account_id: int, hits: list[Hit], include_images: bool) -> list[FoundHit]:
    """The hits with their interactions, the first of them in full as far as a response has room."""
    by_ref = {hit.ref: hit for hit in hits}
    room = PAGE_BYTES - _ABRIDGED_BYTES * len(hits)
    found: list[FoundHit] = []
    for row in interactions.by_refs(conn, account_id, list(by_ref)):
        room -= size_of(row)
        data = None
        if include_images and row.image and row.image.size_bytes <= room:
            data = interactions.image_data(conn, account_id, row.image.sha256)
            room -= len(data)
        if room <= 0:
            break
        omitted = include_images and row.image is not None and data is None
        identity = Identity(row.interaction_id, row.user_id, row.request_id)
        found.append(FoundHit(by_ref.pop(row.ref), identity, PageItem(row, data, image_omitted=omitted)))
    if room <= 0:
        short = interactions.identities(conn, account_id, list(by_ref))
        found += [FoundHit(hit, short[ref], None) for ref, hit in by_ref.items() if ref in short]
    return found
