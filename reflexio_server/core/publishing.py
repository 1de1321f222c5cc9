"""Publishing: what makes two requests the same, and when a publish is answered."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reflexio_server.core.indexing import Indexer
from reflexio_server.errors import RequestIdReused
from reflexio_server.model import NewInteraction, NewRequest, Outcome, ReusedRequestId, StoredRequest
from reflexio_server.storage.writer import Writer

_HASH_VERSION = 1


def body_hash(
    user_id: str, request_group: str, source: str, agent_version: str, interactions: Sequence[NewInteraction]
) -> bytes:
    """SHA-256 of what a request says, the same in every language: protobuf bytes are not canonical.

    After a version byte every field in fixed order, each behind its length in 8 bytes; texts in UTF-8, pictures by
    their SHA-256, numbers as 8 bytes, a created_at that was not sent as nothing. Not in it: request_id, wait_until.
    """
    digest = hashlib.sha256(bytes([_HASH_VERSION]))

    def add(value: bytes) -> None:
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)

    for text in (user_id, request_group, source, agent_version):
        add(text.encode())
    add(len(interactions).to_bytes(8, "big"))
    for item in interactions:
        for text in (item.role, item.content, item.user_action_description, item.interacted_image_url):
            add(text.encode())
        add(int(item.user_action).to_bytes(8, "big"))
        add(item.image.sha256 if item.image else b"")
        add(b"" if item.created_at is None else item.created_at.to_bytes(8, "big", signed=True))
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Published:
    """A stored request and whether all of it is found by meaning already."""

    stored: StoredRequest
    searchable: bool


class Publisher:
    """Stores requests; each is on disk when its call returns."""

    def __init__(self, writer: Writer, indexer: Indexer) -> None:
        self._writer = writer
        self._indexer = indexer

    def publish(self, account_id: int, request: NewRequest, searchable_by: float | None) -> Published:
        """Store one request, all or nothing, and make it searchable by a time (time.monotonic) if one is given.

        Raises RequestIdReused when its id was stored with another body. Not searchable in time is no error.
        """
        (outcome,) = self.publish_all(account_id, [request])
        if isinstance(outcome, ReusedRequestId):
            raise RequestIdReused(outcome.request_id)
        searchable = False
        if searchable_by is not None:
            searchable = self._indexer.index_rows(outcome.refs, max(searchable_by, time.monotonic()))
        return Published(outcome, searchable)

    def publish_all(self, account_id: int, requests: Sequence[NewRequest]) -> list[Outcome]:
        """Store requests, each for itself; their outcomes in the same order."""
        outcomes = self._writer.publish(account_id, requests).result()
        self._indexer.wake()
        return outcomes
