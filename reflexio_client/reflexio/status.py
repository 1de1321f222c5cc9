"""gRPC statuses and per-request verdicts -> the exception tree of errors.py."""

from collections.abc import Mapping
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from reflexio.errors import (
    AlreadyExistsError,
    AuthenticationError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ReflexioError,
    RequestErasedError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from reflexio.outcomes import Rejection

DOMAIN = "reflexio"  # of the ErrorInfo that a Reflexio server sends (error_reason.proto)
_CLASSES: Mapping[str, type[ReflexioError]] = {
    "INVALID_ARGUMENT": InvalidArgumentError,
    "UNAUTHENTICATED": AuthenticationError,
    "NOT_FOUND": NotFoundError,
    "ALREADY_EXISTS": AlreadyExistsError,
    "RESOURCE_EXHAUSTED": ResourceExhaustedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNIMPLEMENTED": UnimplementedError,
    "INTERNAL": InternalError,
}
_CLASSES_OF_REASONS: Mapping[str, type[ReflexioError]] = {"REQUEST_ERASED": RequestErasedError}
# Under which status each reason travels when it is the status of a whole call (error_reason.proto).
_CODE_OF_REASON: Mapping[str, str] = {
    "INVALID_FIELD": "INVALID_ARGUMENT",
    "LIMIT_EXCEEDED": "INVALID_ARGUMENT",
    "MALFORMED_MESSAGE": "INVALID_ARGUMENT",
    "UNAUTHENTICATED": "UNAUTHENTICATED",
    "NOT_FOUND": "NOT_FOUND",
    "REQUEST_ID_REUSED": "ALREADY_EXISTS",
    "REQUEST_ERASED": "ALREADY_EXISTS",
    "TOO_BUSY": "RESOURCE_EXHAUSTED",
    "DRAINING": "UNAVAILABLE",
    "DISK_FULL": "UNAVAILABLE",
    "STORAGE_UNAVAILABLE": "UNAVAILABLE",
    "INTERNAL": "INTERNAL",
    "NOT_IMPLEMENTED": "UNIMPLEMENTED",
}


def error_from_rpc(error: grpc.RpcError, address: str, seconds: float) -> ReflexioError:
    """The error to raise for a call to `address` that had `seconds` to finish."""
    call = cast(grpc.Call, error)
    code = call.code().name
    found = _details(call)
    said = call.details() or ""
    texts = {
        "UNAVAILABLE": f"{address} is not available: {said}",
        "DEADLINE_EXCEEDED": f"{address} did not answer within {seconds:.3g} s",
    }
    message = texts.get(code) or said or f"{address} answered {code}"
    kind = _kind(code, found["reason"])
    if kind is not InvalidArgumentError:
        found.pop("violations")
    return kind(message, code=code, **found)


def error_from_rejection(rejection: Rejection) -> ReflexioError:
    """The error of one request that a stream's verdict lists as refused."""
    code = _CODE_OF_REASON.get(rejection.reason, "")
    kind = _kind(code, rejection.reason)
    more: dict[str, Any] = {"code": code, "reason": rejection.reason}
    if kind is InvalidArgumentError:
        more["violations"] = [(rejection.field, rejection.message)]
    return kind(rejection.message or f"refused: {rejection.reason}", **more)


def _kind(code: str, reason: str) -> type[ReflexioError]:
    return _CLASSES_OF_REASONS.get(reason) or _CLASSES.get(code, ReflexioError)


def _details(call: grpc.Call) -> dict[str, Any]:
    """What the google.rpc details of a status say, by the names of the errors' arguments."""
    found: dict[str, Any] = {"reason": "", "metadata": {}, "retry_after": None, "violations": []}
    trailers = {key: value for key, value in call.trailing_metadata() or ()}  # grpc.aio's was no mapping before 1.80
    found["call_id"] = trailers.get("x-request-id", "")
    status = status_pb2.Status()
    try:
        status.ParseFromString(trailers.get("grpc-status-details-bin", b""))
        for detail in status.details:
            _read_detail(detail, found)
    except DecodeError:  # a proxy's own details; the status itself still counts
        pass
    return found


def _read_detail(detail: Any, found: dict[str, Any]) -> None:
    """A reason counts from a Reflexio server only: another's is nothing that this package knows the meaning of."""
    info, bad, retry = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    if detail.Unpack(info):
        if info.domain == DOMAIN:
            found["reason"], found["metadata"] = info.reason, dict(info.metadata)
    elif detail.Unpack(bad):
        found["violations"] = [(v.field, v.description) for v in bad.field_violations]
    elif detail.Unpack(retry):
        found["retry_after"] = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
