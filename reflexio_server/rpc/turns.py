"""Whose turn it is: of the calls that have a worker some do their work, and the others wait, fairly by account."""

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc


@dataclass(slots=True)
class _Waiter:
    woken: threading.Event = field(default_factory=threading.Event)
    granted: bool = False


class Turns:
    """At most `places` calls work at the same time, at most `each` of one account.

    A call that finds no place waits in its worker, its message unread: so a burst takes the memory and the processor
    of a few calls, and is slowed instead of refused. A place goes to the account that has the fewest.
    """

    def __init__(self, places: int, each: int) -> None:
        self._free = places
        self._each = each
        self._working: Counter[int] = Counter()
        self._waiting: dict[int, deque[_Waiter]] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def turn(self, account_id: int, context: grpc.ServicerContext) -> Iterator[None]:
        """Around the work of a call, once its turn has come or its caller has gone."""
        granted = self._take(account_id) or self._await(account_id, context)
        try:
            yield
        finally:
            if granted:
                with self._lock:
                    self._give_back(account_id)

    def _take(self, account_id: int) -> bool:
        with self._lock:
            if not self._free or self._working[account_id] >= self._each:
                return False
            self._free -= 1
            self._working[account_id] += 1
            return True

    def _await(self, account_id: int, context: grpc.ServicerContext) -> bool:
        waiter = _Waiter()
        with self._lock:
            self._waiting.setdefault(account_id, deque()).append(waiter)
            self._hand_on()  # a place may have come free since
        if context.add_callback(waiter.woken.set):
            waiter.woken.wait()
        with self._lock:
            if not waiter.granted:
                self._remove(account_id, waiter)
        return waiter.granted

    def _give_back(self, account_id: int) -> None:
        self._free += 1
        self._working[account_id] -= 1
        if not self._working[account_id]:
            del self._working[account_id]
        self._hand_on()

    def _hand_on(self) -> None:
        """Let the next one work, if there is a place."""
        able = [account_id for account_id in self._waiting if self._working[account_id] < self._each]
        if not (self._free and able):
            return
        account_id = min(able, key=lambda one: self._working[one])
        waiter = self._waiting[account_id][0]
        self._remove(account_id, waiter)
        self._free -= 1
        self._working[account_id] += 1
        waiter.granted = True
        waiter.woken.set()

    def _remove(self, account_id: int, waiter: _Waiter) -> None:
        queue = self._waiting[account_id]
        queue.remove(waiter)
        if not queue:
            del self._waiting[account_id]
