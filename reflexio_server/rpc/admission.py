"""The first look at a call: is there room, is the server stopping; and the end of calls whose client keeps silent."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from reflexio.supervised import Supervised, say
from reflexio_server.errors import Draining, TooBusy, Unauthenticated
from reflexio_server.rpc.around import calls_back, kind_of
from reflexio_server.rpc.calls import HEALTH, NOT_OF_THE_CONTRACT

logger = logging.getLogger(__name__)

MOST_WAITING = 1000
"""Calls that may wait for a worker, of all accounts; each takes about 10 KiB, as its message is read by the worker."""
RECHECK_SECONDS = 10.0
"""How often a stream's key is looked at; with the 15 s that a key is cached, a revoked one stops within 25 s."""
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class _Wait:
    until: float
    look: float  # when to look at the key again
    recheck: Callable[[], object] | None


class Watchdog:
    """Cancels calls that wait for their client for longer than `seconds`: grpc itself would wait for ever.

    A client that does not send the message of its call, or does not read the answer, would hold a worker or memory.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waits: dict[grpc.ServicerContext, _Wait] = {}
        self.thread = Supervised("watchdog", self._work, logger)
        self.thread.start()

    def begin(
        self, context: grpc.ServicerContext, most: float | None = None, recheck: Callable[[], object] | None = None
    ) -> None:
        """The call waits for its client from now on; at most `most` seconds if that is less than usual.

        It is cancelled before, when `recheck` raises Unauthenticated meanwhile: a client may take long for one answer.
        """
        now = time.monotonic()
        seconds = self.seconds if most is None else min(most, self.seconds)
        self._waits[context] = _Wait(now + seconds, now + RECHECK_SECONDS, recheck)

    def end(self, context: grpc.ServicerContext) -> None:
        """The client did what it had to."""
        self._waits.pop(context, None)

    def _work(self) -> None:
        while not self.thread.over.wait(min(_LOOK_SECONDS, self.seconds / 2)):
            now = time.monotonic()
            for context, wait in self._waits.copy().items():
                if (wait.until < now or not _may_go_on(wait, now)) and self._waits.pop(context, None) is not None:
                    say(
                        logger.debug,
                        "a call ends: its client sent or read nothing for too long, or its key was revoked",
                    )
                    context.cancel()
            self.thread.well()


def _may_go_on(wait: _Wait, now: float) -> bool:
    if wait.recheck is None or now < wait.look:
        return True
    wait.look = now + RECHECK_SECONDS
    try:
        wait.recheck()
    except Unauthenticated:
        return False
    except Exception:
        say(logger.warning, "the key of a call could not be looked at again", exc_info=True)
    return True


class Admit(grpc.ServerInterceptor):
    """Bounds the calls that wait for a worker, and refuses new ones while the server stops.

    It makes every call a stream of requests, so that the worker authenticates before it takes a message: grpc would
    first wait for the message of a unary call, of anyone and without end. `Decode` reads that message.

    Health has threads and places of its own: it must not be found ill because others are many, or silent.
    """

    def __init__(self, draining: threading.Event, health: ThreadPoolExecutor, most_waiting: int = MOST_WAITING) -> None:
        self._draining = draining
        self._health = health
        self._places = deque([None] * most_waiting)
        self._places_of_health = deque([None] * most_waiting)
        self._handlers: dict[str, tuple[Any, Any]] = {}  # of a method: the one that lets in, the one that refuses
        # Refusing must not wait behind what it refuses.
        self._refusing = ThreadPoolExecutor(1, thread_name_prefix="refusing")
        self._last_refused = 0.0

    def wait_until_quiet(self, quiet: float, most: float) -> None:
        """Wait until no call had to be refused for `quiet` seconds, at most `most` seconds."""
        end = time.monotonic() + most
        since = time.monotonic()
        while (left := max(since, self._last_refused) + quiet - time.monotonic()) > 0 and time.monotonic() < end:
            time.sleep(min(left, max(0.0, end - time.monotonic())))

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Take one of the waiting places, or hand the call to the thread that refuses it.

        What is below is wrapped once for each method, as it depends on nothing else.
        """
        handlers = self._handlers.get(details.method)
        if handlers is None:
            handler = continuation(details)
            if handler is None:
                return None
            handlers = self._handlers[details.method] = self._make(handler, details.method)
        try:
            self._places_of(details.method).pop()
        except IndexError:
            return handlers[1]
        return handlers[0]

    def _places_of(self, method: str) -> deque[None]:
        return self._places_of_health if method in HEALTH else self._places

    def _make(self, handler: Any, method: str) -> tuple[Any, Any]:
        kind = "stream" if handler.response_streaming else "unary"
        behaviour = getattr(handler, kind_of(handler))

        def with_answer(answer: Any) -> Any:
            return handler._replace(
                request_streaming=True, **{"unary_unary": None, "unary_stream": None, f"stream_{kind}": answer}
            )

        entering = self._entering(behaviour, method)
        if method in HEALTH:
            entering.experimental_thread_pool = self._health
        entering.experimental_non_blocking = calls_back(handler)
        return with_answer(entering), with_answer(self._refuse)

    def _entering(self, behaviour: Callable[..., Any], method: str) -> Any:
        places, always = self._places_of(method), method in NOT_OF_THE_CONTRACT

        def answer(requests: Any, context: grpc.ServicerContext, *send: Any) -> Any:
            places.append(None)
            if not context.is_active():
                next(requests)  # cancelled while it waited: this raises what grpc then keeps quiet about
            if self._draining.is_set() and not always:
                self._last_refused = time.monotonic()
                raise Draining
            return behaviour(requests, context, *send)

        return answer

    @property
    def _refuse(self) -> Any:
        def refuse(_requests: Any, _context: grpc.ServicerContext) -> Any:
            raise TooBusy("calls waiting")

        refuse.experimental_thread_pool = self._refusing  # type: ignore[attr-defined]
        return refuse
