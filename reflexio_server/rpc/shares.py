"""What one account may take at the same time: calls, answers that it does not read, and streams."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import grpc

from reflexio_server.errors import TooBusy
from reflexio_server.rpc import calls
from reflexio_server.rpc.around import Wrapper, wrap
from reflexio_server.rpc.calls import PUBLISH_STREAM, WITHOUT_KEY, caller
from reflexio_server.rpc.strangers import Strangers
from reflexio_server.rpc.watchdog import Watchdog

_MOST_UNREAD_BY_STRANGERS = 200
TURN_SECONDS = 10.0
"""How long an account's only stream is left alone, when others that have none wait for a place."""
_ROOM_SECONDS = 2.0  # within which a stream that is told to end has stored what it read
_LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Shares:
    """What may be taken at the same time.

    Attributes:
        workers: calls that are handled, or wait in the lines of those that are.
        kept: of them those that nobody takes beyond `account_calls`, so that others find them at once.
        account_calls: unary calls of one account while others take so much that no more than `kept` are free.
        account_most: the same while there are more.
        working: unary calls that do their work; the others wait in their account's line, see `Lines`.
        searching: the same of searches, which have lines of their own: each keeps a core busy, so that more at once
            only take the interpreter's lock from each other.
        streams: of all accounts.
        account_streams: streams of one account.
    """

    workers: int
    kept: int
    account_calls: int
    account_most: int
    working: int
    searching: int
    streams: int
    account_streams: int


@dataclass(slots=True, eq=False)
class _Stream:
    ending: threading.Event | None  # None: a picture on its way, which ends by itself
    since: float = field(default_factory=time.monotonic)

    @property
    def can_end(self) -> bool:
        return self.ending is not None and not self.ending.is_set()


@dataclass(slots=True, eq=False)
class _Use:
    streams: list[_Stream] = field(default_factory=list)  # the oldest first
    unfinished: int = 0  # calls, and answers that their caller has not taken


class LimitCalls(Wrapper):
    """Refuses answers and streams beyond an account's share with TooBusy; has answers cancelled that nobody takes.

    An account that has no stream gets one when all places are taken: a stream of the account with the most, its oldest,
    is told to end with its verdict, and its client goes on with another. Where each account has just one, they take
    turns.

    Calls without a key have no share that somebody could use up for the others: those that wait for their client are
    bounded by `Strangers`, and logins by core.logins.
    """

    def __init__(self, shares: Shares, watchdog: Watchdog, draining: threading.Event) -> None:
        self._shares = shares
        self._watchdog = watchdog
        self._draining = draining
        self._unread = Strangers(watchdog, _MOST_UNREAD_BY_STRANGERS, watchdog.seconds)
        self._streams = 0
        self._newcomers: list[_Use] = []  # that wait for a place, the first first
        self._uses: dict[int, _Use] = {}
        self._changed = threading.Condition()

    def wrap(self, handler: Any, method: str) -> Any:
        streams = handler.request_streaming or handler.response_streaming
        if method in WITHOUT_KEY:
            return handler if streams else wrap(handler, self._stranger)
        return wrap(handler, partial(self._stream, method) if streams else self._call)

    @contextlib.contextmanager
    def _stranger(self, context: grpc.ServicerContext) -> Iterator[None]:
        context.add_callback(lambda: self._unread.end(context))
        yield
        self._unread.begin(context)
        if not context.is_active():
            self._unread.end(context)

    @contextlib.contextmanager
    def _call(self, context: grpc.ServicerContext) -> Iterator[None]:
        who = caller().account.account_id
        with self._changed:
            use = self._uses.setdefault(who, _Use())
            if use.unfinished >= 2 * self._shares.account_most:
                raise TooBusy("answers not read", calls.SOON)
            use.unfinished += 1
        if not context.add_callback(lambda: self._finished(who, context)):
            self._finished(who, context)
        yield
        if context.is_active():
            self._watchdog.begin(context)  # until the answer is taken

    def _finished(self, who: int, context: grpc.ServicerContext) -> None:
        """On grpc's serving thread, when the caller has the answer or has gone."""
        self._watchdog.end(context)
        with self._changed:
            use = self._uses[who]
            use.unfinished -= 1
            self._forget(who, use)

    @contextlib.contextmanager
    def _stream(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        who = caller().account.account_id
        stream = _Stream(calls.let_end(self._draining) if method == PUBLISH_STREAM else None)
        with self._changed:
            use = self._uses.setdefault(who, _Use())
            try:
                self._find_place(use, context)
                use.streams.append(stream)
                self._streams += 1
            finally:
                self._forget(who, use)
        try:
            yield
        finally:
            with self._changed:
                use.streams.remove(stream)
                self._streams -= 1
                self._forget(who, use)
                self._changed.notify_all()

    def _find_place(self, use: _Use, context: grpc.ServicerContext) -> None:
        """Return when there is a place for a stream; raises TooBusy."""
        shares = self._shares
        if len(use.streams) >= shares.account_streams:
            raise TooBusy("streams")
        if self._streams + len(self._newcomers) < shares.streams:
            return
        if use.streams or use in self._newcomers:
            raise TooBusy("streams")
        self._newcomers.append(use)
        until = time.monotonic() + _ROOM_SECONDS
        try:
            while self._streams >= shares.streams or self._newcomers[0] is not use:
                self._make_room()
                self._changed.wait(_LOOK_SECONDS)
                if time.monotonic() > until or not context.is_active():
                    raise TooBusy("streams")
        finally:
            self._newcomers.remove(use)

    def _make_room(self) -> None:
        """Have as many streams end as newcomers wait, the oldest of who has the most."""
        streams = [one for use in self._uses.values() for one in use.streams]
        told = sum(one.ending is not None and one.ending.is_set() for one in streams)
        if told >= len(self._newcomers):
            return
        able = [[one for one in use.streams if one.can_end] for use in self._uses.values()]
        most = max(map(len, able), default=0)
        oldest = min((ones[0] for ones in able if ones and len(ones) == most), key=lambda one: one.since, default=None)
        if oldest and oldest.ending and (most > 1 or time.monotonic() - oldest.since > TURN_SECONDS):
            oldest.ending.set()

    def _forget(self, who: int, use: _Use) -> None:
        if not (use.streams or use.unfinished or use in self._newcomers) and self._uses.get(who) is use:
            del self._uses[who]
