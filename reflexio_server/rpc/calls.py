"""The call that a thread is handling: its id, whose it is, and what it moved."""

import random
import re
import threading
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from reflexio.v1 import interaction_service_pb2
from reflexio_server.model import Account, ApiKey, Caller

CALL_ID_KEY = "x-request-id"
"""The metadata a call's id travels in. Everywhere else it is the call id: a request_id is a publish's."""
LOGIN = "/reflexio.v1.AuthService/Login"
HEALTH = frozenset(f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PUBLISH = "/reflexio.v1.InteractionService/PublishInteractions"
SEARCH = "/reflexio.v1.InteractionService/SearchInteractions"
PUBLISH_STREAM = "/reflexio.v1.InteractionService/PublishInteractionStream"
NOT_OF_THE_CONTRACT = HEALTH | {REFLECTION}
WITHOUT_KEY = NOT_OF_THE_CONTRACT | {LOGIN}
"""The methods that need no key, each by its whole name: one that is added needs a key until it stands here."""
SOON = 0.25
"""Seconds after which a call that is refused may find room; most take milliseconds."""
_CALL_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_random = random.Random()

NOBODY = Caller(Account(0, "", "-", 0), ApiKey("", "", 0, None))
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_STREAMS = {
    f"/{service.full_name}/{method.name}"
    for service in interaction_service_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if method.client_streaming or method.server_streaming
}


def is_stream(method: str) -> bool:
    """Whether a method streams, by its path: to what stands around `Admit`, every call looks like a stream."""
    return method in _STREAMS or method == REFLECTION


@dataclass(slots=True)
class Call:
    """A call while it is handled.

    Attributes:
        method: its path, "/reflexio.v1.AuthService/WhoAmI".
        call_id: the `x-request-id` of its metadata when that is usable, else 16 hexadecimal digits.
        caller: who makes it, NOBODY until the key was looked at.
        received, sent: bytes of messages so far, before compression.
        recheck: raises Unauthenticated when the caller's key is not valid any more.
        ending: of a publish stream: set when it is to end with its verdict.
    """

    method: str
    call_id: str
    caller: Caller = NOBODY
    received: int = 0
    sent: int = 0
    recheck: Callable[[], object] = lambda: None
    ending: threading.Event | None = None


_current: ContextVar[Call | None] = ContextVar("call", default=None)


def begin(method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Call:
    """Let this be the call that this thread is handling, until it leaves the context that grpc made for the call."""
    given = [value for key, value in metadata if key == CALL_ID_KEY]
    usable = len(given) == 1 and isinstance(given[0], str) and _CALL_ID.fullmatch(given[0])
    call = Call(method, str(given[0]) if usable else f"{_random.getrandbits(64):016x}")
    _current.set(call)
    return call


def current() -> Call:
    """The call that this thread is handling. Raises LookupError when it handles none."""
    call = _current.get()
    if call is None:
        raise LookupError("this thread handles no call")
    return call


def call_id() -> str:
    """The id of the call that this thread is handling, "" when it handles none."""
    call = _current.get()
    return call.call_id if call else ""


def set_caller(caller: Caller, recheck: Callable[[], object]) -> None:
    """Remember who makes the call that this thread is handling; see Call for `recheck`."""
    current().caller, current().recheck = caller, recheck


def recheck() -> None:
    """Look again whether the caller's key is valid, as a stream may outlive it. Raises Unauthenticated."""
    current().recheck()


class _Ending(threading.Event):
    """Set by itself, or by another."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


def let_end(draining: threading.Event) -> threading.Event:
    """What tells the stream that this thread is handling to end with its verdict; so does `draining`."""
    ending = current().ending = _Ending(draining)
    return ending


def caller() -> Caller:
    """Who makes the call that this thread is handling."""
    call = _current.get()
    return call.caller if call else NOBODY


def code_of(context: grpc.ServicerContext) -> grpc.StatusCode:
    """What became of a call that has just been handled."""
    code: Any = context.code()  # type: ignore[attr-defined]
    if code is not None:
        named: grpc.StatusCode = _CODES.get(code, code)  # abort leaves grpc's number of it
        return named
    if context.is_active():
        return grpc.StatusCode.OK
    return grpc.StatusCode.CANCELLED if context.time_remaining() else grpc.StatusCode.DEADLINE_EXCEEDED
