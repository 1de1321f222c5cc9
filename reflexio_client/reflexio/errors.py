"""The exception tree. `grpc.RpcError` never leaves this package: `status.py` turns it into one of these."""

from collections.abc import Mapping, Sequence
from typing import Any

from reflexio.whose import refuse_others

refuse_others()  # here, as every module that does something imports this one


class ReflexioError(Exception):
    """Anything that goes wrong in this package; every other error is a child of it.

    Attributes:
        code: name of the gRPC status, such as "UNAVAILABLE"; empty when nothing was sent.
        reason: name of an `ErrorReason` of the contract, such as "INVALID_FIELD"; empty when there is none.
        metadata: what belongs to the reason, such as {"field": …, "count": …, "maximum": …}.
        retry_after: seconds the server asks to wait before the next attempt; None when it does not say.
        call_id: what the server's log has the call under, for whoever runs it; also in the text. Empty when the
            server sent none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        call_id: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.call_id = call_id

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own would call the class with the message alone: an argument too few for some, and a
        # multiprocessing.Pool whose result cannot be read waits for ever.
        cause = self.__cause__ if isinstance(self.__cause__, ReflexioError) else None
        return _restored, (type(self), self.args, self.__dict__, cause)

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (call {self.call_id})" if self.call_id and self.call_id not in message else message


def _restored(
    kind: type[ReflexioError], args: tuple[Any, ...], attributes: Mapping[str, Any], cause: ReflexioError | None
) -> ReflexioError:
    """A copied or unpickled error, made without calling what its class is made with."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(attributes)
    error.__cause__ = cause
    return error


class InvalidArgumentError(ReflexioError, ValueError):
    """What was given breaks a rule, found here or by the server.

    Attributes:
        violations: pairs (field, description), such as ("interactions[3].image_encoding", "is not base64").
    """

    def __init__(self, message: str, *, violations: Sequence[tuple[str, str]] = (), **rest: Any) -> None:
        super().__init__(message, **rest)
        self.violations = list(violations)


class ConfigurationError(ReflexioError, ValueError):
    """The client was set up with something that cannot work, such as a malformed address."""


class AuthenticationError(ReflexioError):
    """There is no API key, it is not valid, or email and password do not fit."""


class NotFoundError(ReflexioError):
    """It is not there, or it belongs to another account."""


class AlreadyExistsError(ReflexioError):
    """The request_id was used before with other content."""


class RequestErasedError(AlreadyExistsError):
    """The request_id belongs to a request that was erased: it stays taken, and publishing it again stores nothing."""


class ResourceExhaustedError(ReflexioError):
    """Too much at once: wait `retry_after` seconds, or send less when it is None."""


class UnavailableError(ReflexioError):
    """The server cannot be reached or does not serve now; the message names the address."""


class DeadlineExceededError(ReflexioError, TimeoutError):
    """There was no answer in time; the message names the address and the time."""


class UnimplementedError(ReflexioError):
    """This server does not offer the call."""


class InternalError(ReflexioError):
    """The server failed in a way it did not foresee."""

    @property
    def error_id(self) -> str:
        """The id under which the server's log has the failure; empty when it sent none."""
        return self.metadata.get("error_id", "")


class QueueFullError(ReflexioError):
    """The spool is full: nothing was taken and nothing was dropped."""


class SpoolError(ReflexioError):
    """The spool on disk cannot be written, for instance because the disk is full: nothing was taken."""


class ClosedError(ReflexioError):
    """The client is closed."""
