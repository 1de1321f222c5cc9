"""Reading the verdict on a stream of requests."""

from dataclasses import dataclass

from reflexio.errors import InternalError
from reflexio.outcomes import Rejection
from reflexio.retry import REFUSALS
from reflexio.v1 import interaction_service_pb2 as pb

_TRANSIENT_REASONS = frozenset({"TOO_BUSY", "DRAINING", "DISK_FULL", "STORAGE_UNAVAILABLE"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the requests of a stream, by their position in it.

    Attributes:
        stored: stored now or before. A request is here only when the verdict leaves no doubt.
        refused: will not be stored, however often it is sent.
        failed: the server failed at it, or says what this version does not know; it may be sent again.
        handled: how many of the requests, from the first on, the verdict covers.

    A position in none of them is to be sent again.
    """

    stored: list[int]
    refused: dict[int, Rejection]
    failed: dict[int, Rejection]
    handled: int


def read_verdict(answer: pb.PublishInteractionStreamResponse, sent: int) -> Verdict:
    """The verdict on a stream of `sent` requests; raises InternalError when it contradicts itself."""
    counts = answer.requests
    handled = counts.stored + counts.duplicate + counts.rejected
    listed = {r.index: Rejection(None, r.request_id, r.reason, r.field, r.message) for r in answer.rejections}
    if handled > sent or len(listed) > counts.rejected or any(index >= handled for index in listed):
        raise InternalError("the server's verdict on a stream contradicts itself", code="INTERNAL")
    # When more was rejected than is listed, what is not listed may be either: nothing counts as stored then.
    certain = len(listed) == counts.rejected
    return Verdict(
        stored=[index for index in range(handled) if index not in listed] if certain else [],
        refused={i: r for i, r in listed.items() if r.reason in REFUSALS},
        failed={i: r for i, r in listed.items() if r.reason not in REFUSALS and r.reason not in _TRANSIENT_REASONS},
        handled=handled,
    )
