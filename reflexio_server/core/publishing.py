"""Publishing: what makes two requests the same, and when a publish is answered."""

import hashlib
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from reflexio_server.core.embedding import VectorMaker
from reflexio_server.errors import RequestErased, RequestIdReused
from reflexio_server.model import ErasedRequestId, NewInteraction, NewRequest, Outcome, ReusedRequestId, StoredRequest
from reflexio_server.stages import stage
from reflexio_server.storage.writer import Writer

_HASH_VERSION = 1


def body_hash(
    user_id: str, request_group: str, source: str, agent_version: str, interactions: Sequence[NewInteraction]
) -> bytes:
    """SHA-256 of what a request says, the same in every language: protobuf bytes are not canonical.

    A version byte, the number of fields and the length of each in 8 bytes, then the fields in fixed order: texts in
    UTF-8, pictures by their SHA-256, the action as a byte, created_at as 8 bytes of microseconds, or as nothing when
    it was not sent. Not in it: request_id, wait_until.
    """
    fields = [user_id.encode(), request_group.encode(), source.encode(), agent_version.encode()]
    for item in interactions:
        fields += (
            item.role.encode(),
            item.content.encode(),
            item.user_action_description.encode(),
            item.interacted_image_url.encode(),
            bytes([item.user_action]),
            item.image.sha256 if item.image else b"",
            b"" if item.created_at is None else item.created_at.to_bytes(8, "big", signed=True),
        )
    lengths = struct.pack(f">{len(fields)}Q", *map(len, fields))
    return hashlib.sha256(bytes([_HASH_VERSION]) + len(fields).to_bytes(8, "big") + lengths + b"".join(fields)).digest()


@dataclass(frozen=True, slots=True)
class Published:
    """A stored request and whether all of it is found by meaning already."""

    stored: StoredRequest
    searchable: bool


class Publisher:
    """Stores requests; each is on disk when its call returns."""

    def __init__(self, writer: Writer, vector_maker: VectorMaker) -> None:
        self._writer = writer
        self._vector_maker = vector_maker

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
                searchable = self._vector_maker.embed_rows(outcome.refs, max(searchable_by, time.monotonic()))
        return Published(outcome, searchable)

    def publish_all(self, account_id: int, requests: Sequence[NewRequest]) -> list[Outcome]:
        """Store requests, each for itself; their outcomes in the same order."""
        outcomes = self._writer.publish(account_id, requests).result()
        self._vector_maker.wake()
        return outcomes
