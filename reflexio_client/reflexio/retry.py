"""What to do after a failed attempt, for the outbox and for bulk alike."""

import random
import re
import time
from dataclasses import dataclass

from reflexio.errors import ReflexioError, ResourceExhaustedError, UnavailableError

REFUSALS = frozenset(
    {"INVALID_FIELD", "LIMIT_EXCEEDED", "MALFORMED_MESSAGE", "NOT_FOUND", "REQUEST_ID_REUSED", "REQUEST_ERASED"}
)
"""The reasons of a Reflexio server that stay the same however often the same is sent. All other failures may pass."""
ATTEMPTS_OF_ONE = 450  # with pauses of up to 10 minutes some three days; of a delete, which others wait for, 40 minutes
_LONGEST_PAUSE = 600.0
_NOT_TAKEN = ("RST_STREAM", "health check call failed")  # as gRPC says it of a call
# How gRPC's implementations say it of a message.
_TOO_LARGE = re.compile(r"larger than (max|configured)|message exceeds|message (length )?too large", re.I)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to go on.

    Attributes:
        split: send half as much at a time, and let one that fails on its own wait while others go.
        attempts: give a single request up after so many attempts; None: never.
    """

    split: bool = False
    attempts: int | None = None


_LATER = Plan()
_LATER_AND_LESS = Plan(split=True)  # less may get through
_MAYBE_POISON = Plan(split=True, attempts=ATTEMPTS_OF_ONE)
_REFUSED = Plan(split=True, attempts=1)

_PLANS = {
    "UNAVAILABLE": _LATER,
    "ABORTED": _LATER,
    "CANCELLED": _LATER,
    "DEADLINE_EXCEEDED": _LATER_AND_LESS,
    "RESOURCE_EXHAUSTED": _LATER_AND_LESS,
    "UNKNOWN": _MAYBE_POISON,
    "INTERNAL": _MAYBE_POISON,
    # A wrong address or a proxy in between: no fault of what is sent.
    "UNIMPLEMENTED": _LATER,
    "UNAUTHENTICATED": _LATER,
    "PERMISSION_DENIED": _LATER_AND_LESS,
}


def plan_after(error: ReflexioError, *, delete: bool = False) -> Plan:
    """How to go on after a stream or a delete failed with this. A key that Reflexio refused is the caller's matter."""
    if error.reason in REFUSALS:
        return _REFUSED
    if error.code == "RESOURCE_EXHAUSTED":
        if error.retry_after is not None:
            return _LATER
        if not error.reason and _TOO_LARGE.search(str(error)):
            return _REFUSED
    if delete and error.code == "UNIMPLEMENTED":  # an older server: what waits behind it must not wait for ever
        return _MAYBE_POISON
    return _PLANS.get(error.code, _MAYBE_POISON)


def pause_of_one(attempts: int) -> float:
    """Seconds before one request that failed so often on its own is sent again, while others go."""
    return random.uniform(0.5, 1.0) * min(_LONGEST_PAUSE, 0.1 * 2.0 ** min(attempts, 20))


def is_refusal(error: ReflexioError) -> bool:
    """Whether a call was refused because there was too much at once: nothing of it was done, and it may be repeated.

    What says so is a Reflexio server, a proxy before it, HTTP/2 itself by the reset of a stream, or gRPC here where a
    crowded server did not tell whether it serves.
    """
    if isinstance(error, ResourceExhaustedError):
        return error.retry_after is not None or not (error.reason or _TOO_LARGE.search(str(error)))
    return isinstance(error, UnavailableError) and any(said in str(error) for said in _NOT_TAKEN)


def may_pass(error: ReflexioError) -> bool:
    """Whether the same call may succeed later: it was refused for now, or nobody answered."""
    return is_refusal(error) or isinstance(error, UnavailableError)


class Backoff:
    """Growing waits with full jitter, so that clients do not come back all at once."""

    def __init__(self, first: float = 0.1, most: float = 10.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    def next(self, at_least: float | None = None) -> float:
        """Seconds to wait after a failure; never less than what the server asked for."""
        longest = min(self._most, self._first * 2 ** min(self._failures, 20))
        self._failures += 1
        return (at_least or 0.0) + random.uniform(0, longest)


class Patience:
    """A time within which a call may be repeated.

    Attributes:
        seconds: how long it is.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds
        self._backoff = Backoff(most=2.0)

    def left(self) -> float:
        """Seconds until the end, not below a millisecond."""
        return max(0.001, self._end - time.monotonic())

    def pause(self, error: ReflexioError) -> float:
        """Seconds to wait before the call is repeated; raises the error when they would not fit."""
        seconds = self._backoff.next(error.retry_after)
        if seconds >= self.left():
            raise error
        return seconds
