"""What one account may take: calls at the same time, and streams. The rest stays for the others."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from reflexio_server.errors import TooBusy
from reflexio_server.rpc.admission import Watchdog
from reflexio_server.rpc.around import Wrapper, wrap
from reflexio_server.rpc.calls import WITHOUT_KEY, caller
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.turns import Turns

_SOON = 0.25  # seconds after which a call may find room; most take milliseconds
_MOST_UNREAD_BY_STRANGERS = 200


@dataclass(frozen=True, slots=True)
class Shares:
    """What may be taken at the same time.

    Attributes:
        workers: of the server.
        kept: workers that nobody takes beyond `account_calls`, so that others find them at once.
        account_calls: unary calls of one account while others take so much that no more than `kept` are free.
        account_most: the same while there are more.
        working: unary calls that do their work; the others wait for their turn, see `Turns`.
        account_working: the same of one account.
        streams: of all accounts; the workers beyond are for unary calls.
        account_streams: streams of one account.
    """

    workers: int
    kept: int
    account_calls: int
    account_most: int
    working: int
    account_working: int
    streams: int
    account_streams: int


@dataclass(slots=True)
class _Use:
    calls: int = 0
    streams: int = 0
    unfinished: int = 0  # calls, and answers that their caller has not taken


class LimitCalls(Wrapper):
    """Refuses calls beyond an account's share with TooBusy, and has answers cancelled that nobody takes.

    Calls without a key have no share that somebody could use up for the others: those that wait for their client are
    bounded by `Strangers`, and logins by core.logins.
    """

    def __init__(self, shares: Shares, watchdog: Watchdog) -> None:
        super().__init__()
        self._shares = shares
        self._watchdog = watchdog
        self._turns = Turns(shares.working, shares.account_working)
        self._unread = Strangers(watchdog, _MOST_UNREAD_BY_STRANGERS, watchdog.seconds)
        self._calls = 0
        self._streams = 0
        self._uses: dict[int, _Use] = {}
        self._lock = threading.Lock()

    def wrap(self, handler: Any, method: str) -> Any:
        streams = handler.request_streaming or handler.response_streaming
        if method in WITHOUT_KEY:
            return handler if streams else wrap(handler, self._stranger)
        return wrap(handler, self._stream if streams else self._call)

    @contextlib.contextmanager
    def _stranger(self, context: grpc.ServicerContext) -> Iterator[None]:
        context.add_callback(lambda: self._unread.end(context))
        yield
        self._unread.begin(context)
        if not context.is_active():
            self._unread.end(context)

    @contextlib.contextmanager
    def _call(self, context: grpc.ServicerContext) -> Iterator[None]:
        who, shares = caller().account.account_id, self._shares
        with self._lock:
            use = self._uses.setdefault(who, _Use())
            free = shares.workers - self._calls - self._streams
            if use.calls >= (shares.account_most if free > shares.kept else shares.account_calls):
                self._forget(who, use)
                raise TooBusy("calls", _SOON)
            if use.unfinished >= 2 * shares.account_most:
                raise TooBusy("answers not read", _SOON)
            self._calls += 1
            use.calls += 1
            use.unfinished += 1
        if not context.add_callback(lambda: self._finished(who, context)):
            self._finished(who, context)
        try:
            with self._turns.turn(who, context):
                yield
            if context.is_active():
                self._watchdog.begin(context)  # until the answer is taken
        finally:
            with self._lock:
                self._calls -= 1
                use.calls -= 1
                self._forget(who, use)

    def _finished(self, who: int, context: grpc.ServicerContext) -> None:
        """On grpc's serving thread, when the caller has the answer or has gone."""
        self._watchdog.end(context)
        with self._lock:
            use = self._uses[who]
            use.unfinished -= 1
            self._forget(who, use)

    @contextlib.contextmanager
    def _stream(self, context: grpc.ServicerContext) -> Iterator[None]:
        who = caller().account.account_id
        with self._lock:
            use = self._uses.setdefault(who, _Use())
            if use.streams >= self._shares.account_streams or self._streams >= self._shares.streams:
                self._forget(who, use)
                raise TooBusy("streams")
            use.streams += 1
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                use.streams -= 1
                self._streams -= 1
                self._forget(who, use)

    def _forget(self, who: int, use: _Use) -> None:
        if not (use.calls or use.streams or use.unfinished) and self._uses.get(who) is use:
            del self._uses[who]
