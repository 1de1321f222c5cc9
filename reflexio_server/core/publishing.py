"""Publishing: when a publish is answered."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from reflexio_server.core.embedding import VectorMaker
from reflexio_server.errors import RequestErased, RequestIdReused
from reflexio_server.model import ErasedRequestId, NewRequest, Outcome, ReusedRequestId, StoredRequest
from reflexio_server.stages import stage
from reflexio_server.storage.writer import Writer


@dataclass(frozen=True, slots=True)
class Published:
    """A stored request and whether all of it is found by meaning already."""

    stored: StoredRequest
    searchable: bool


@dataclass(frozen=True, eq=False)
class Publisher:
    """Stores requests; each is on disk when its call returns."""

    writer: Writer
    vector_maker: VectorMaker

    def publish(self, account_id: int, request: NewRequest, searchable_by: float | None) -> Published:
        """Store one request, all or nothing, and make it searchable by a time (time.monotonic) if one is given.

        Raises RequestIdReused when its id was stored with another body, RequestErased when that request was erased. Not
        searchable in time is no error.
        """
        with stage("commit"):
            (outcome,) = self.publish_all(account_id, [request])
        if isinstance(outcome, ReusedRequestId):
            raise RequestIdReused(outcome.request_id)
        if isinstance(outcome, ErasedRequestId):
            raise RequestErased(outcome.request_id)
        searchable = False
        if searchable_by is not None:
            with stage("index"):
                searchable = self.vector_maker.embed_rows(outcome.refs, max(searchable_by, time.monotonic()))
        return Published(outcome, searchable)

    def publish_all(self, account_id: int, requests: Sequence[NewRequest]) -> list[Outcome]:
        """Store requests, each for itself; their outcomes in the same order."""
        outcomes = self.writer.publish(account_id, requests).result()
        self.vector_maker.wake()
        return outcomes
