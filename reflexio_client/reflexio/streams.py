"""What a client knows of a server's streams: how many requests a message may carry, and that all places are taken."""

import time
from collections.abc import Sequence

import grpc

from reflexio.errors import InvalidArgumentError
from reflexio.retry import REFUSALS
from reflexio.status import error_from_rpc
from reflexio.v1 import interaction_service_pb2 as pb

PACKED_BYTES = 64 * 1024  # of a message with several requests; beyond, packing saves little
_AGAIN_SECONDS = 1.0  # unless the server says it
_REQUEST, _REQUESTS = b"\x0a", b"\x12"  # how the fields of PublishInteractionStreamRequest begin on the wire


class Streams:
    """How to send to one server over streams, as its answers tell.

    Attributes:
        per_message: how many requests a message may carry. One, until a verdict says more: a server of before takes a
            message with several for an empty one.
        full_until: until when to try no other stream (time.monotonic), as there was no place for one.
    """

    def __init__(self) -> None:
        self.per_message = 1
        self.full_until = 0.0

    def understood(self, answer: pb.PublishInteractionStreamResponse, most: int) -> bool:
        """Take note of a verdict; whether its server has read messages of up to so many requests.

        If it has not, another one answers at this address now, and its verdict is on other requests than were sent.
        """
        self.per_message = max(1, answer.requests_per_message)
        return most <= self.per_message

    @property
    def full(self) -> bool:
        return time.monotonic() < self.full_until

    def are_full(self, error: grpc.RpcError) -> bool:
        """Take note of a failed stream; whether the server had no place for it, as others hold them all."""
        found = error_from_rpc(error, "", 0)
        if found.reason != "TOO_BUSY" or found.metadata.get("limit") != "streams":
            return False
        wait = _AGAIN_SECONDS if found.retry_after is None else found.retry_after
        self.full_until = time.monotonic() + wait
        return True


class OneByOne:
    """The verdict on requests that are sent by unary calls, as a stream's would be. It ends before the first failure.

    Attributes:
        answer: the verdict so far.
    """

    def __init__(self) -> None:
        self.answer = pb.PublishInteractionStreamResponse()

    @property
    def handled(self) -> int:
        """How many requests it is on."""
        counts = self.answer.requests
        return counts.stored + counts.duplicate + counts.rejected

    def stored(self, response: pb.PublishInteractionsResponse) -> None:
        name = "duplicate" if response.replayed else "stored"
        for counts, number in ((self.answer.requests, 1), (self.answer.interactions, len(response.interaction_ids))):
            setattr(counts, name, getattr(counts, name) + number)

    def failed(self, request: pb.PublishInteractionsRequest, rpc_error: grpc.RpcError) -> bool:
        """Take a failure; whether the next may be sent. Raises it when the verdict would be on nothing."""
        error = error_from_rpc(rpc_error, "", 0)
        if error.reason not in REFUSALS:
            if self.handled:
                return False
            raise rpc_error
        field, text = "", str(error)
        if isinstance(error, InvalidArgumentError) and error.violations:
            field, text = error.violations[0]
        self.answer.rejections.add(
            index=self.handled, request_id=request.request_id, reason=error.reason, field=field, message=text
        )
        self.answer.requests.rejected += 1
        self.answer.interactions.rejected += len(request.interactions)
        return True


def pack(payloads: Sequence[bytes], most: int) -> Sequence[bytes]:
    """Serialized messages with a `request` each, in as few messages of at most `most` and PACKED_BYTES as may be.

    One that stays alone stays as it is: also a server of before reads it.
    """
    if most < 2:
        return payloads
    messages: list[list[bytes]] = []
    room = size = 0  # of the last message
    for payload in payloads:
        if not _is_one_field(payload):
            messages.append([payload])
            room = 0
            continue
        if not room or size + len(payload) > PACKED_BYTES:
            messages.append([])
            room, size = most, 0
        messages[-1].append(payload)
        room -= 1
        size += len(payload)
    return [one[0] if len(one) == 1 else b"".join(_REQUESTS + payload[1:] for payload in one) for one in messages]


def _is_one_field(payload: bytes) -> bool:
    """It is the field `request` from end to end: else, among others, it would be taken for another number of them."""
    if not payload.startswith(_REQUEST):
        return False
    length = 0
    for place, byte in enumerate(payload[1:6]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return len(payload) == 2 + place + length
    return False
