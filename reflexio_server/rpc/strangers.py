"""Calls without a key, which wait for their client: bounded by making room, so that the silent shut nobody out."""

import threading
import time

import grpc

from reflexio_server.rpc.peer import address_of
from reflexio_server.rpc.watchdog import Watchdog

SECONDS = 10.0
"""What a login or a health check sends is one packet."""
_PATIENCE_SECONDS = 0.05  # who has waited for less may just have come with many others


class Strangers:
    """Watches calls that wait for their client, as the Watchdog does, and has at most `most` of them wait.

    Room is always made for another: of the address with the most, the call that has waited longest is cancelled. The
    thread of the other waits for that, a moment at most, so there must be more threads than `most`.
    """

    def __init__(self, watchdog: Watchdog, most: int, seconds: float = SECONDS) -> None:
        self._watchdog = watchdog
        self._most = most
        self._seconds = seconds
        self._addresses: dict[grpc.ServicerContext, str] = {}
        # Of each address since when they wait, the one first that waits longest.
        self._since: dict[str, dict[grpc.ServicerContext, float]] = {}
        self._changed = threading.Condition()

    def begin(self, context: grpc.ServicerContext) -> None:
        """The call waits for its client from now on."""
        address = address_of(context)
        crowded_out: grpc.ServicerContext | None = None
        with self._changed:
            self._addresses[context] = address
            self._since.setdefault(address, {})[context] = time.monotonic()
            while crowded_out is None and len(self._addresses) > self._most:
                crowded = max(self._since, key=lambda one: len(self._since[one]))
                longest, since = next(iter(self._since[crowded].items()))
                patience = since + _PATIENCE_SECONDS - time.monotonic()
                if patience > 0:
                    self._changed.wait(patience)
                else:
                    crowded_out = longest
                    self._remove(longest)
        self._watchdog.begin(context, self._seconds)
        if crowded_out is not None:
            crowded_out.cancel()

    def end(self, context: grpc.ServicerContext) -> None:
        """The client did what it had to, or has gone."""
        self._watchdog.end(context)
        with self._changed:
            if context in self._addresses:
                self._remove(context)

    def _remove(self, context: grpc.ServicerContext) -> None:
        address = self._addresses.pop(context)
        of_address = self._since[address]
        del of_address[context]
        if not of_address:
            del self._since[address]
        self._changed.notify()
