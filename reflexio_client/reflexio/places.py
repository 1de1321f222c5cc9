"""How many calls are under way over one channel: what is more waits for its turn here, in the order it came."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

MOST_CALLS = 100
"""As many as a server takes over one connection; what comes beyond them before grpc knows that is refused."""


class Places:
    """Places of calls that block their thread. The first to wait is the next to go."""

    def __init__(self, most: int = MOST_CALLS) -> None:
        self._most = most
        self._lock = threading.RLock()  # a signal handler may call too
        # Those under way, and behind them those that wait, each for a lock of its own: unlike threading.Event's, no
        # signal handler's exception can leave it in between.
        self._line: dict[threading.Lock, None] = {}

    @contextmanager
    def one(self, seconds: float) -> Iterator[bool]:
        """A place for a block; False when none came free within `seconds`."""
        turn = threading.Lock()
        turn.acquire()
        try:
            with self._lock:
                self._line[turn] = None
                waits = len(self._line) > self._most
            yield not waits or turn.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
        finally:
            with self._lock:
                self._line.pop(turn, None)
                for last in islice(self._line, self._most - 1, self._most):  # who has a place now
                    if last.locked():
                        last.release()
