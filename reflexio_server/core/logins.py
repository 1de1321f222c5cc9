"""How many logins there may be: by account and address, by address, and at once."""

import hashlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from cachetools import LRUCache

from reflexio_server.errors import TooBusy, Unauthenticated

REMEMBERED = 20_000
"""Accounts at addresses, and addresses, that are counted; the ones longest unseen are forgotten first."""
REFILL_SECONDS = 60.0

PLACES, PLACES_PER_ADDRESS = 8, 6
"""Logins in progress or waiting for it, a fifth of a second at most: they hold workers, of which there may be 20."""


@dataclass(slots=True)
class _Bucket:
    """Tries that are left, as of a moment."""

    left: float
    at: float


class _Buckets:
    """Token buckets by key: `capacity` tries, and `each_second` come back until it is full again."""

    def __init__(self, capacity: int, each_second: float) -> None:
        self._capacity = capacity
        self._each_second = each_second
        self._buckets: LRUCache[bytes, _Bucket] = LRUCache(REMEMBERED)

    def wait(self, key: bytes, now: float) -> float:
        """Seconds until there is a try; 0 when there is one. It makes no bucket: a refused try must leave nothing."""
        if key not in self._buckets:
            return 0.0
        return max(0.0, round((1 - self._bucket(key, now).left) / self._each_second, 6))

    def take(self, key: bytes, now: float) -> None:
        self._bucket(key, now).left -= 1

    def give_back(self, key: bytes, now: float) -> None:
        bucket = self._bucket(key, now)
        bucket.left = min(self._capacity, bucket.left + 1)

    def forget(self, key: bytes) -> None:
        self._buckets.pop(key, None)

    def _bucket(self, key: bytes, now: float) -> _Bucket:
        bucket: _Bucket | None = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(self._capacity, now)
        bucket.left = min(self._capacity, bucket.left + (now - bucket.at) * self._each_second)
        bucket.at = now
        return bucket


class Tries(Protocol):
    """Counts the tries of an account at an address, and those of the address, both by keys that tell nothing."""

    def take(self, by_account: bytes, by_address: bytes) -> float:
        """Take one of each; else seconds until both have one, and nothing is taken."""

    def give_back(self, by_account: bytes, by_address: bytes) -> None:
        """Give both back what was taken: nothing was tried."""

    def succeed(self, by_account: bytes, by_address: bytes) -> None:
        """Let the account have all its tries, and give the address back what was taken."""


class TriesHere:
    """Those of this process. Memory is bounded by REMEMBERED, about 8 MiB."""

    def __init__(self, tries: int, tries_per_address: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._accounts = _Buckets(tries, 1 / REFILL_SECONDS)
        self._addresses = _Buckets(at_once(tries_per_address), tries_per_address / REFILL_SECONDS)
        self._lock = threading.Lock()

    def take(self, by_account: bytes, by_address: bytes) -> float:
        with self._lock:
            now = self._clock()
            wait = max(self._accounts.wait(by_account, now), self._addresses.wait(by_address, now))
            if not wait:
                self._accounts.take(by_account, now)
                self._addresses.take(by_address, now)
            return wait

    def give_back(self, by_account: bytes, by_address: bytes) -> None:
        with self._lock:
            self._accounts.give_back(by_account, self._clock())
            self._addresses.give_back(by_address, self._clock())

    def succeed(self, by_account: bytes, by_address: bytes) -> None:
        with self._lock:
            self._accounts.forget(by_account)
            self._addresses.give_back(by_address, self._clock())


class Logins:
    """Bounds failed logins, and logins at once, before any work is done for them.

    Args:
        tries: failed logins of one account from one address, at first; then one comes back each minute. Nobody can
            use up those of another address, so an owner is never locked out from elsewhere.
        tries_per_address: failed logins from one address in a minute, whatever the account; a third of them at once,
            as each one checked takes 20 to 30 ms of a core from everybody else.
        clock: seconds that only go forward.
        shared: counts the tries instead, for all servers of a store. Logins at once are those of this process.

    Accounts that are not there count as those that are.
    """

    def __init__(
        self,
        tries: int = 10,
        tries_per_address: int = 30,
        clock: Callable[[], float] = time.monotonic,
        shared: Tries | None = None,
    ) -> None:
        self._tries = shared or TriesHere(tries, tries_per_address, clock)
        self._lock = threading.Lock()
        self._places: Counter[str] = Counter()

    @contextmanager
    def attempt(self, email: str, address: str) -> Iterator[None]:
        """Around the work of one login: Unauthenticated inside counts as a failure, the end as a success.

        Raises TooBusy at once when the account at this address, or the address, failed too often, or when too many
        log in at the same time.
        """
        keys = _digest(address, email), _digest(address)
        with self._place(address):
            # Taken before the work, so that many at once get no more tries than one after the other.
            if wait := self._tries.take(*keys):
                raise TooBusy("logins", math.ceil(wait))
            try:
                yield
            except Unauthenticated:
                raise
            except BaseException:
                self._tries.give_back(*keys)
                raise
            self._tries.succeed(*keys)

    @contextmanager
    def _place(self, address: str) -> Iterator[None]:
        with self._lock:
            self._take_place(address)
        try:
            yield
        finally:
            with self._lock:
                self._places[address] -= 1
                if not self._places[address]:
                    del self._places[address]

    def _take_place(self, address: str) -> None:
        if self._places.total() >= PLACES or self._places[address] >= PLACES_PER_ADDRESS:
            raise TooBusy("logins")
        self._places[address] += 1


def at_once(tries_per_address: int) -> int:
    """How many of the tries of a minute an address has at once."""
    return max(1, tries_per_address // 3)


def _digest(*parts: str) -> bytes:
    """A key of fixed size, which holds nothing that was typed in."""
    return hashlib.sha256("\0".join(parts).encode()).digest()[:16]
