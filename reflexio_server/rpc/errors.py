"""Domain errors to gRPC statuses, in this one place. A caller never sees the text of any other exception."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from reflexio.supervised import say
from reflexio_server import errors
from reflexio_server.rpc.calls import CALL_ID_KEY, call_id
from reflexio_server.shortage import DISK, files_fail, shortage

logger = logging.getLogger(__name__)

DOMAIN = "reflexio"
MOST_VIOLATIONS = 20
MOST_DETAIL_BYTES = 4096  # grpc implementations stop reading trailers at 8 KiB, and base64 adds a third


def reason(error: errors.DomainError) -> str:
    """The name of the ErrorReason of an error, without its prefix."""
    return _describe(error)[1]


def abort(context: grpc.ServicerContext, error: BaseException) -> NoReturn:
    """End the call with the status of an error; what is unforeseen gets a fixed text, and its call a log entry.

    What failed as files could not be used, or as files, memory or disk were short, is to be tried again.
    """
    if not isinstance(error, errors.DomainError) and files_fail(error):
        say(logger.error, "a call failed, as files cannot be read or written", exc_info=error)
        error = errors.StorageUnavailable()
    if not isinstance(error, errors.DomainError) and (short := shortage(error)):
        say(logger.warning, "a call failed, as there are too many %s: %s", short, type(error).__name__)
        error = errors.DiskFull() if short == DISK else errors.TooBusy(short)
    if isinstance(error, errors.DomainError):
        code, name, message, metadata = _describe(error)
    else:
        error_id = call_id()
        say(logger.error, "unforeseen error %s", error_id, exc_info=error)
        code, name = code_pb2.INTERNAL, "INTERNAL"
        message = f"internal error {error_id}: the server's log has the cause under this id"
        metadata = {"error_id": error_id}
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=metadata)]
    if isinstance(error, errors.InvalidInput):
        details.append(_bad_request(error, MOST_DETAIL_BYTES - details[0].ByteSize()))
    retry_after = _retry_after(error)
    if retry_after is not None:
        delay = duration_pb2.Duration(nanos=int(retry_after % 1 * 1e9), seconds=int(retry_after))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code, message=message, details=[_pack(detail) for detail in details])
    answer = rpc_status.to_status(status)
    # What the call had for metadata is replaced, and so has its id added again.
    context.set_trailing_metadata((*answer.trailing_metadata, (CALL_ID_KEY, call_id())))
    context.abort(answer.code, answer.details)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a caller is told: an ErrorReason without its prefix, and a text with the attributes in `metadata`."""

    code: int
    reason: str
    text: str
    metadata: tuple[str, ...] = ()
    retry_after: float | None = None  # seconds; of TooBusy its own


_AGAIN = "try again after the time in RetryInfo"
_TOLD = {
    errors.MalformedMessage: _Told(
        code_pb2.INVALID_ARGUMENT,
        "MALFORMED_MESSAGE",
        "the message cannot be read: it is not of this RPC's type, or holds text that is not UTF-8",
    ),
    errors.WrongPassword: _Told(
        code_pb2.UNAUTHENTICATED, "UNAUTHENTICATED", "the email and the password do not fit: no account has them both"
    ),
    errors.Unauthenticated: _Told(
        code_pb2.UNAUTHENTICATED,
        "UNAUTHENTICATED",
        "no valid credentials: log in, and send the API key as the metadata `authorization: Bearer <key>`",
    ),
    errors.NotFound: _Told(code_pb2.NOT_FOUND, "NOT_FOUND", "there is no such {resource}", ("resource",)),
    errors.RequestIdReused: _Told(
        code_pb2.ALREADY_EXISTS,
        "REQUEST_ID_REUSED",
        "request_id {request_id!r} was used before with another body: repeat that body, or use a new id",
        ("request_id",),
    ),
    errors.RequestErased: _Told(
        code_pb2.ALREADY_EXISTS,
        "REQUEST_ERASED",
        "request_id {request_id!r} belongs to an erased request: use a new id for something new",
        ("request_id",),
    ),
    errors.TooBusy: _Told(code_pb2.RESOURCE_EXHAUSTED, "TOO_BUSY", "too many {limit}: " + _AGAIN, ("limit",)),
    errors.TooManyWatchers: _Told(
        code_pb2.UNIMPLEMENTED, "NOT_IMPLEMENTED", "too many health watches: go on without one, or ask by Check"
    ),
    errors.Draining: _Told(code_pb2.UNAVAILABLE, "DRAINING", f"the server is shutting down: {_AGAIN}", retry_after=1),
    errors.StorageUnavailable: _Told(
        code_pb2.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        f"the server cannot read or write its files at the moment: {_AGAIN}",
        retry_after=5,
    ),
    errors.NotLeader: _Told(
        code_pb2.UNAVAILABLE, "STORAGE_UNAVAILABLE", f"another server writes this now: {_AGAIN}", retry_after=1
    ),
    errors.DatabaseUnavailable: _Told(
        code_pb2.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        f"the server's database cannot be reached at the moment: {_AGAIN}",
        retry_after=1,
    ),
    errors.ModelNotHere: _Told(
        code_pb2.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        f"the server does not have the embedding model that searches use now; its operator must install it: {_AGAIN}",
        retry_after=5,
    ),
    errors.DiskFull: _Told(
        code_pb2.UNAVAILABLE, "DISK_FULL", f"the server's disk is full: nothing was stored; {_AGAIN}", retry_after=30
    ),
    errors.Damaged: _Told(
        code_pb2.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        "the server's database is damaged: nothing can be stored or read until its operator restores a backup",
        retry_after=30,
    ),
}
"""Each error but InvalidInput, whose text is its violations'."""


def _describe(error: errors.DomainError) -> tuple[int, str, str, Mapping[str, str]]:
    """Code, reason, text for a person, metadata."""
    if isinstance(error, errors.InvalidInput):
        first = error.violations[0]
        metadata, reason = {"violations": str(error.total)}, "INVALID_FIELD"
        if error.total == 1 and first.maximum is not None:
            metadata = {"field": first.field, "count": str(first.count), "maximum": str(first.maximum)}
            reason = "LIMIT_EXCEEDED"
        more = f" (and {error.total - 1} more)" if error.total > 1 else ""
        return code_pb2.INVALID_ARGUMENT, reason, f"{first.field}: {first.description}{more}", metadata
    told = _TOLD[type(error)]
    metadata = {name: getattr(error, name) for name in told.metadata}
    return told.code, told.reason, told.text.format_map(metadata), metadata


def _retry_after(error: BaseException) -> float | None:
    if isinstance(error, errors.TooBusy):
        return error.retry_after
    return _TOLD[type(error)].retry_after if type(error) in _TOLD else None


def _bad_request(error: errors.InvalidInput, room: int) -> error_details_pb2.BadRequest:
    bad = error_details_pb2.BadRequest()
    for violation in error.violations[:MOST_VIOLATIONS]:
        bad.field_violations.add(field=violation.field, description=violation.description)
        if bad.ByteSize() > room - 128:  # the envelopes' type names
            del bad.field_violations[-1]
            break
    return bad


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
