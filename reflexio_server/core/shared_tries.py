"""Counts login tries for all servers of a store, in its database."""

import logging
import time
from collections.abc import Callable

from sqlalchemy import Connection

from reflexio.supervised import say
from reflexio_server.core.logins import REFILL_SECONDS, at_once
from reflexio_server.errors import DomainError
from reflexio_server.storage import login_tries
from reflexio_server.storage.login_tries import Bucket, NoTry
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

_SWEEP_SECONDS = 60.0


class SharedTries:
    """See `logins.Tries`. Raises as the writer does; a try that cannot be given back comes back by itself."""

    def __init__(self, writer: Writer, tries: int, tries_per_address: int) -> None:
        self._writer = writer
        self._of_account = tries, int(REFILL_SECONDS * 1e6)
        self._of_address = at_once(tries_per_address), int(REFILL_SECONDS * 1e6 / tries_per_address)
        self._sweep_at = time.monotonic() + _SWEEP_SECONDS

    def take(self, by_account: bytes, by_address: bytes) -> float:
        self._sweep()
        both = self._buckets(by_account, by_address)
        try:
            self._writer.submit(lambda conn: login_tries.take(conn, both)).result()
        except NoTry as refused:
            return refused.seconds
        return 0.0

    def give_back(self, by_account: bytes, by_address: bytes) -> None:
        both = self._buckets(by_account, by_address)
        self._give(lambda conn: login_tries.give_back(conn, both))

    def succeed(self, by_account: bytes, by_address: bytes) -> None:
        account, address = self._buckets(by_account, by_address)
        self._give(lambda conn: login_tries.succeed(conn, account, address))

    def _give(self, back: Callable[[Connection], None]) -> None:
        try:
            self._writer.submit(back).result()
        except DomainError:
            say(logger.warning, "a login's try cannot be given back now")

    def _buckets(self, by_account: bytes, by_address: bytes) -> tuple[Bucket, Bucket]:
        return Bucket(by_account, *self._of_account), Bucket(by_address, *self._of_address)

    def _sweep(self) -> None:
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_SECONDS
            self._writer.submit(login_tries.sweep)  # nobody needs to wait for it
