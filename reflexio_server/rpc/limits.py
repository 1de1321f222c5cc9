"""What one account may take: calls at the same time, streams, bytes a second. The rest stays for the others."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from reflexio_server.errors import TooBusy
from reflexio_server.rpc.admission import Watchdog
from reflexio_server.rpc.around import wrap
from reflexio_server.rpc.calls import LOGIN, caller

_SOON = 0.25  # seconds after which a call may find room; most take milliseconds


@dataclass(frozen=True, slots=True)
class Shares:
    """What may be taken at the same time.

    Attributes:
        streams: of all accounts; the workers beyond are for unary calls.
        account_calls: unary calls of one account.
        account_streams: streams of one account.
        strangers: unary calls without a key, for each service that takes them.
        stranger_streams: the same for streams, that is reflection.
    """

    streams: int
    account_calls: int
    account_streams: int
    strangers: int
    stranger_streams: int


@dataclass(slots=True)
class _Use:
    calls: int = 0
    streams: int = 0
    unfinished: int = 0  # calls, and answers that their caller has not taken


class LimitCalls(grpc.ServerInterceptor):
    """Refuses calls beyond an account's share with TooBusy, and has answers cancelled that nobody takes."""

    def __init__(self, shares: Shares, watchdog: Watchdog) -> None:
        self._shares = shares
        self._watchdog = watchdog
        self._streams = 0
        self._uses: dict[int | str, _Use] = {}
        self._lock = threading.Lock()

    def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """Wrap the handler by its kind."""
        handler = continuation(details)
        if handler is None:
            return None
        around = self._stream if handler.request_streaming or handler.response_streaming else self._call
        return wrap(handler, lambda context: around(details.method, context))

    @contextlib.contextmanager
    def _call(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        who, account_id = _who(method)
        most = self._shares.account_calls if account_id else self._shares.strangers
        with self._lock:
            use = self._uses.setdefault(who, _Use())
            if use.calls >= most:
                raise TooBusy("logins" if method == LOGIN else "calls", _SOON)
            if use.unfinished >= 2 * most:
                raise TooBusy("answers not read", _SOON)
            use.calls += 1
            use.unfinished += 1
        if not context.add_callback(lambda: self._finished(who, context)):
            self._finished(who, context)
        try:
            yield
            if context.is_active():
                self._watchdog.begin(context)  # until the answer is taken
        finally:
            with self._lock:
                use.calls -= 1
                self._forget(who, use)

    def _finished(self, who: int | str, context: grpc.ServicerContext) -> None:
        """On grpc's serving thread, when the caller has the answer or has gone."""
        self._watchdog.end(context)
        with self._lock:
            use = self._uses[who]
            use.unfinished -= 1
            self._forget(who, use)

    @contextlib.contextmanager
    def _stream(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        who, account_id = _who(method)
        most = self._shares.account_streams if account_id else self._shares.stranger_streams
        with self._lock:
            use = self._uses.setdefault(who, _Use())
            if use.streams >= most or self._streams >= self._shares.streams:
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

    def _forget(self, who: int | str, use: _Use) -> None:
        if not (use.calls or use.streams or use.unfinished) and self._uses.get(who) is use:
            del self._uses[who]


def _who(method: str) -> tuple[int | str, int]:
    """Whose share a call takes: the account's, or without one that of the strangers at this service."""
    account_id = caller().account.account_id
    return account_id or method.rpartition("/")[0], account_id


class ByteRate:
    """Bytes a second of received messages, for each account (0: nobody's); a second's worth may come at once.

    A message may be larger than what is left: it is taken, and what follows waits until the debt is paid.
    """

    def __init__(self, per_second: int) -> None:
        """`per_second`: 0 for no bound."""
        self._per_second = per_second
        self._full_at: dict[int, float] = {}  # account: when its bucket will be full again (time.monotonic)
        self._lock = threading.Lock()

    def wait_seconds(self, account_id: int) -> float:
        """How long the account has to wait before its next message; 0 when it need not."""
        if not (self._per_second and account_id):
            return 0.0
        return max(0.0, self._full_at.get(account_id, 0.0) - time.monotonic() - 1.0)

    def take(self, account_id: int, count: int) -> None:
        """Note that a message of so many bytes has come."""
        if not (self._per_second and account_id):
            return
        now = time.monotonic()
        with self._lock:
            if len(self._full_at) > 10_000:
                self._full_at = {one: full for one, full in self._full_at.items() if full > now}
            self._full_at[account_id] = max(now, self._full_at.get(account_id, now)) + count / self._per_second

    def check(self, account_id: int) -> None:
        """Raises TooBusy when the account has to wait."""
        if seconds := self.wait_seconds(account_id):
            raise TooBusy("bytes a second", seconds)
