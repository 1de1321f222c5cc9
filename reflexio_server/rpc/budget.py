"""How many bytes of messages are in flight, of all accounts: those that are read, parsed, written, or wait for that."""

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from reflexio_server.errors import TooBusy
from reflexio_server.rpc.lines import leaves_enough

SMALL_BYTES = 64 * 1024
"""Messages up to this size are not counted once they are read; as many as there are threads take little."""
_READ, _HANDLED = 24, 8  # messages of the largest size
_LOOK_SECONDS = 0.5  # how often who waits looks whether their caller is still there


@dataclass(slots=True, eq=False)
class _Waiter:
    size: int
    granted: threading.Event = field(default_factory=threading.Event)


class Budget:
    """At most `most` bytes for the messages of all accounts; one message more of each account that has none.

    An account's messages wait for each other's, and never for another account's: see `leaves_enough`.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._held: Counter[int] = Counter()
        self._waiting: dict[int, deque[_Waiter]] = {}
        self._lock = threading.Lock()

    def take(self, account_id: int, size: int, is_wanted: Callable[[], bool], seconds: float) -> None:
        """Take room for a message of `size` bytes, until `give_back`.

        Waits for it; raises TooBusy after `seconds`, or when the message `is_wanted` no more.
        """
        with self._lock:
            if account_id not in self._waiting and leaves_enough(self._held[account_id], self._free, size):
                self._grant(account_id, size)
                return
            waiter = _Waiter(size)
            self._waiting.setdefault(account_id, deque()).append(waiter)
        until = time.monotonic() + seconds
        while not waiter.granted.wait(_LOOK_SECONDS):
            if time.monotonic() > until or not is_wanted():
                with self._lock:
                    if not waiter.granted.is_set():
                        self._remove(account_id, waiter)
                        raise TooBusy("bytes of messages")

    def give_back(self, account_id: int, size: int) -> None:
        with self._lock:
            self._free += size
            self._held[account_id] -= size
            if not self._held[account_id]:
                del self._held[account_id]
            while self._waiting and self._hand_on():
                pass

    def _grant(self, account_id: int, size: int) -> None:
        self._held[account_id] += size
        self._free -= size

    def _hand_on(self) -> bool:
        """Let the account that holds least go on, of those that may."""
        able = [
            account_id
            for account_id, waiters in self._waiting.items()
            if leaves_enough(self._held[account_id], self._free, waiters[0].size)
        ]
        if not able:
            return False
        account_id = min(able, key=lambda one: self._held[one])
        waiter = self._waiting[account_id][0]
        self._remove(account_id, waiter)
        self._grant(account_id, waiter.size)
        waiter.granted.set()
        return True

    def _remove(self, account_id: int, waiter: _Waiter) -> None:
        waiters = self._waiting[account_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiting[account_id]


class Messages:
    """Bounds the messages that publish, of at most `most_bytes` each: those that are read, and those that are handled.

    How large a message is gRPC tells only with all of it, so as long as it is read it counts as the largest. While it
    is handled, by its size, it takes some three times that: what was parsed, what is made of it, what is written.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._read = Budget(_READ * most_bytes)
        self._handled = Budget(_HANDLED * most_bytes)

    @contextlib.contextmanager
    def reading(
        self, account_id: int, read: Callable[[], bytes], is_wanted: Callable[[], bool], seconds: float
    ) -> Iterator[bytes]:
        """Around what is done with a message that `read` gives; raises what that does, and TooBusy, see Budget."""
        with contextlib.ExitStack() as held:
            self._read.take(account_id, self._most_bytes, is_wanted, seconds)
            try:
                raws = [read()]
                held.enter_context(self.handling(account_id, len(raws[0]), is_wanted, seconds))
            finally:
                self._read.give_back(account_id, self._most_bytes)
            yield raws.pop()  # only who handles it keeps it

    @contextlib.contextmanager
    def handling(self, account_id: int, size: int, is_wanted: Callable[[], bool], seconds: float) -> Iterator[None]:
        """Around what is done with a message of `size` bytes that was read; raises TooBusy, see Budget."""
        if size <= SMALL_BYTES:
            yield
            return
        self._handled.take(account_id, size, is_wanted, seconds)
        try:
            yield
        finally:
            self._handled.give_back(account_id, size)
