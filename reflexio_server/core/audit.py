"""One line for each login and for each change of an account or key, without secrets."""

import logging
import threading
import time

from cachetools import LRUCache

from reflexio.supervised import say

logger = logging.getLogger("reflexio.audit")

THROTTLED_SECONDS = 10.0
"""Logins that are turned away unseen get one line an address in this time, which counts them: a flood fills no disk."""


def record(event: str, *, account: str = "-", **more: str | int) -> None:
    """Log an event of an account, named by its public tag, with what belongs to it."""
    say(logger.info, event, extra={"account": account, **more})


class Throttled:
    """Counts the logins of an address that were turned away, and logs now and then."""

    def __init__(self) -> None:
        self._seen: LRUCache[str, tuple[float, int]] = LRUCache(1000)
        self._lock = threading.Lock()

    def count(self, address: str) -> None:
        now = time.monotonic()
        with self._lock:
            logged, unsaid = self._seen.get(address, (float("-inf"), 0))
            due = now - logged >= THROTTLED_SECONDS
            self._seen[address] = (now, 0) if due else (logged, unsaid + 1)
        if due:
            record("login throttled", address=address, tries=unsaid + 1)
