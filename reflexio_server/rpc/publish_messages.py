"""Messages that publish, from their bytes: bounded before they are parsed, those of a stream cut into requests."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from google.protobuf.message import DecodeError

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.errors import DomainError, InvalidInput, MalformedMessage, Violation
from reflexio_server.rpc.fields import count_fields, messages_in

MOST_REQUESTS = 100
"""In one message of a stream: beyond, there is nothing left to save."""
MOST_FIELDS = 20_000
"""Of a request: an empty interaction takes 2 bytes on the wire and 130 in memory."""
_IN_MEMORY = 130
_FEW_BYTES = 64 * 1024  # as many empty interactions as fit take 4 MiB
_REQUEST, _REQUESTS = 1, 2  # the fields of PublishInteractionStreamRequest

Given = pb.PublishInteractionsRequest | DomainError
"""A request, or what is wrong with it."""


class Batch(NamedTuple):
    """Requests that came together, and about how many bytes they take in memory."""

    requests: list[Given]
    size: int


class PublishMessages:
    """Reads them; what cannot be read, or has too many fields, becomes the DomainError that says so."""

    def __init__(self, most_interactions: int) -> None:
        self._most_interactions = most_interactions
        self._most_fields = max(MOST_FIELDS, 2 * most_interactions)

    def request(self, raw: bytes) -> Given:
        """A PublishInteractionsRequest."""
        if self._has_many(raw, nested=False):
            most = self._most_fields
            text = f"more than {most:,} fields, at most {self._most_interactions:,}: send several requests"
            return InvalidInput([Violation("interactions", text, most + 1, self._most_interactions)])
        try:
            return pb.PublishInteractionsRequest.FromString(raw)
        except DecodeError:
            return MalformedMessage()

    def of_stream(self, raw: bytes) -> Iterable[Batch]:
        """The requests of a PublishInteractionStreamRequest; one that breaks its rules counts as one request."""
        if not self._has_many(raw, nested=True):
            try:
                message = pb.PublishInteractionStreamRequest.FromString(raw)
            except DecodeError:
                pass  # whichever of them it is, the others can be read
            else:
                alone = message.HasField("request")
                if error := _broken_rule(alone, len(message.requests)):
                    return [Batch([error], 0)]
                return [_batch([message.request] if alone else list(message.requests), len(raw))]
        return self._one_by_one(raw)

    def _one_by_one(self, raw: bytes) -> Iterator[Batch]:
        """As `of_stream`, each request for itself: one that cannot be parsed, or has too many fields, is refused alone.

        What is read is held once, however many empty interactions a message has.
        """
        try:
            numbers = [number for number, _ in islice(messages_in(raw), MOST_REQUESTS + 1)]
        except ValueError:
            numbers = []
        error: DomainError | None = MalformedMessage()
        if numbers and set(numbers) <= {_REQUEST, _REQUESTS} and numbers.count(_REQUEST) <= 1:
            error = _broken_rule(_REQUEST in numbers, numbers.count(_REQUESTS))
        if error:
            yield Batch([error], 0)
            return
        for _, part in messages_in(raw):
            yield _batch([self.request(part)], len(part))

    def _has_many(self, raw: bytes, *, nested: bool) -> bool:
        most = self._most_fields
        return len(raw) > _FEW_BYTES and count_fields(raw, most, nested=nested) > most


def _batch(requests: list[Given], size: int) -> Batch:
    items = sum(0 if isinstance(one, DomainError) else len(one.interactions) for one in requests)
    return Batch(requests, size + _IN_MEMORY * items)


def _broken_rule(alone: bool, several: int) -> InvalidInput | None:
    """What is wrong with a message of a stream that has `request`, and so many `requests`."""
    if alone and several:
        return InvalidInput([Violation("requests", "cannot be combined with request: send one of them")])
    if not (alone or several):
        return InvalidInput([Violation("request", "is required, or else requests: send one of them")])
    if several > MOST_REQUESTS:
        text = f"{several:,} requests, at most {MOST_REQUESTS}: send several messages"
        return InvalidInput([Violation("requests", text, several, MOST_REQUESTS)])
    return None
