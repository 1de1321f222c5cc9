"""The first look at a call: whose line it waits in, is there room, is the server stopping."""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from reflexio_server.errors import Draining, TooBusy
from reflexio_server.rpc.around import calls_back, kind_of, with_behaviour
from reflexio_server.rpc.calls import HEALTH, NOT_OF_THE_CONTRACT, SEARCH, SOON, WITHOUT_KEY, is_stream
from reflexio_server.rpc.health import THREADS as HEALTH_THREADS
from reflexio_server.rpc.lines import STRANGER, Lines, Place, Threads, place
from reflexio_server.rpc.shares import Shares

MOST_WAITING = 1000
"""Calls that may wait for a thread in the lines of one kind; each takes about 10 KiB, as its message is read later."""
_MOST_KNOWN = 10_000
CALLS, WAITING, DRAINING = "calls", "calls waiting", "draining"
"""What refuses a call here: limits, and that the server stops."""
Metadata = Iterable[tuple[str, str | bytes]]


class Entrance:
    """Where a call goes first: the lines of searches, of other calls and of streams, of strangers, and of health.

    Health has threads of its own: it must not be found ill because others are many, or silent.
    """

    def __init__(self, shares: Shares, most_waiting: int = MOST_WAITING) -> None:
        threads = self._threads = Threads(2 * shares.workers, "worker")
        self.calls = Lines(threads, shares.working)
        self.searches = Lines(threads, shares.searching)
        self.streams = Lines(threads, 2 * shares.streams + shares.kept)  # the rest is for those that are refused
        self._strangers = Lines(threads, shares.workers)  # whose one line has half of these
        self._health_threads = Threads(HEALTH_THREADS, "health")
        self._health = Lines(self._health_threads, 2 * HEALTH_THREADS)
        self._shares = shares
        self._most_waiting = most_waiting
        self._accounts: dict[int, int] = {}  # by the hash of what a call gives as its key

    def close(self) -> None:
        """End the threads."""
        self._threads.end()
        self._health_threads.end()

    def find(self, details: grpc.HandlerCallDetails) -> tuple[Lines, int]:
        """The line of a new call, by its lines and its account."""
        if details.method in HEALTH:
            return self._health, STRANGER
        account_id = STRANGER if details.method in WITHOUT_KEY else self._account_of(details.invocation_metadata)
        if account_id == STRANGER:
            return self._strangers, STRANGER
        return self._lines_of(details.method), account_id

    def refusal(self, lines: Lines, account_id: int) -> str | None:
        """Which limit a further call would break."""
        if lines.waiting >= self._most_waiting:
            return WAITING
        if lines is self.calls or lines is self.searches:
            shares = self._shares
            free = shares.workers - len(self.calls) - len(self.searches)
            calls = self.calls.length(account_id) + self.searches.length(account_id)
            if calls >= (shares.account_most if free > shares.kept else shares.account_calls):
                return CALLS
        return None

    def authenticated(self, method: str, metadata: Metadata, account_id: int) -> None:
        """Whose the call is that this thread is handling; raises TooBusy when that account has enough."""
        here = place()
        if here.account_id == account_id:
            return
        if len(self._accounts) >= _MOST_KNOWN:
            self._accounts.clear()
        self._accounts[_key_of(metadata)] = account_id
        lines = self._lines_of(method)
        refused = self.refusal(lines, account_id)
        if refused:
            raise _too_busy(refused)
        here.move(lines, account_id)

    def _account_of(self, metadata: Metadata) -> int:
        return self._accounts.get(_key_of(metadata), STRANGER)

    def _lines_of(self, method: str) -> Lines:
        if method == SEARCH:
            return self.searches
        return self.streams if is_stream(method) else self.calls


def _key_of(metadata: Metadata) -> int:
    """Stands for a key, and tells nothing of it."""
    return hash(tuple(value for key, value in metadata if key == "authorization"))


class Admit(grpc.ServerInterceptor):
    """Gives every call a place in its account's line, or has it refused; stands outermost.

    It makes every call a stream of requests, so that a thread authenticates before it takes a message: grpc would
    first wait for the message of a unary call, of anyone and without end. `Decode` reads that message.
    """

    def __init__(self, entrance: Entrance, gate: "Gate") -> None:
        self._entrance = entrance
        self._gate = gate
        self._handlers: dict[str, dict[str | None, Any]] = {}  # of a method, by the limit that refuses it
        # Refusing must not wait behind what it refuses.
        self._refusing = ThreadPoolExecutor(1, thread_name_prefix="refusing")

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """What is below is wrapped once for each method, as it depends on nothing else."""
        handlers = self._handlers.get(details.method)
        if handlers is None:
            if continuation(details) is None:
                return None
            kinds = (Kind(details.method, refused) for refused in (None, CALLS, WAITING, DRAINING))
            handlers = self._handlers[details.method] = {kind.refused: continuation(kind) for kind in kinds}
        lines, account_id = self._entrance.find(details)
        refused = DRAINING if self._gate.is_closed(details.method) else self._entrance.refusal(lines, account_id)
        handler = handlers[refused]
        enter = _Entering(getattr(handler, kind_of(handler)), calls_back(handler))
        enter.experimental_thread_pool = self._refusing if refused else Place(lines, account_id)
        answers = "stream_stream" if handler.response_streaming else "stream_unary"
        return handler._replace(request_streaming=True, unary_unary=None, unary_stream=None, **{answers: enter})


class _Entering:
    """What a thread does first with a call; grpc reads the attributes."""

    def __init__(self, behaviour: Callable[..., Any], non_blocking: bool) -> None:
        self._behaviour = behaviour
        self.experimental_non_blocking = non_blocking
        self.experimental_thread_pool: ThreadPoolExecutor

    def __call__(self, requests: Any, context: grpc.ServicerContext, *send: Any) -> Any:
        if not context.is_active():
            next(requests)  # cancelled while it waited: this raises what grpc then keeps quiet about
        return self._behaviour(requests, context, *send)


@dataclass(frozen=True, slots=True)
class Kind(grpc.HandlerCallDetails):
    """What `Admit` asks the interceptors below for: a method's calls, or those that are refused."""

    method: str
    refused: str | None
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class Gate(grpc.ServerInterceptor):
    """Refuses what `Admit` found too much, or too late; stands where errors are mapped.

    It closes when the server stops; who came before and waits in a line gets their turn.
    """

    def __init__(self, draining: threading.Event) -> None:
        self._draining = draining
        self._last_refused = 0.0

    def is_closed(self, method: str) -> bool:
        """Whether new calls of a method are refused, as the server stops."""
        return self._draining.is_set() and method not in NOT_OF_THE_CONTRACT

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        if isinstance(details, Kind) and details.refused:
            return with_behaviour(handler, self._refusing(details.refused))
        return handler

    def _refusing(self, why: str) -> Callable[..., Any]:
        def refuse(_requests: Any, _context: grpc.ServicerContext, *_send: Any) -> Any:
            if why == DRAINING:
                self._last_refused = time.monotonic()
                raise Draining
            raise _too_busy(why)

        return refuse

    def wait_until_quiet(self, quiet: float, most: float) -> None:
        """Wait until no call had to be refused as the server stops for `quiet` seconds, at most `most` seconds."""
        end = time.monotonic() + most
        since = time.monotonic()
        while (left := max(since, self._last_refused) + quiet - time.monotonic()) > 0 and time.monotonic() < end:
            time.sleep(min(left, max(0.0, end - time.monotonic())))


def _too_busy(limit: str) -> TooBusy:
    return TooBusy(limit, SOON if limit == CALLS else 1.0)
