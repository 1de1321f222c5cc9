"""Erasing: one interaction or request at once, a thread or a user step by step."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection

from reflexio_server.clock import now_us
from reflexio_server.errors import Draining, NotFound, TooBusy
from reflexio_server.model import ErasedCounts
from reflexio_server.storage import erasing
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

STEP = 250
"""Interactions that a step erases, or one request if that has more: publishes wait for no more than a step."""

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, eq=False)
class Eraser:
    """Erases in one account at a time. What is not there, or another account's, raises NotFound.

    `erased` is called with the account after each step.
    """

    database: Database
    writer: Writer
    erased: Callable[[int], None]
    draining: threading.Event

    def interaction(self, account_id: int, interaction_id: str, user_id: str | None) -> ErasedCounts:
        """Erase an interaction of the account, or of the user if one is named, and its request with its last one."""
        return self._at_once(
            account_id,
            "interaction",
            lambda conn: erasing.erase_interaction(conn, account_id, interaction_id, user_id, now_us()),
        )

    def request(self, account_id: int, request_id: str, user_id: str | None) -> ErasedCounts:
        """Erase a request of the account, or of the user if one is named, with all its interactions."""
        return self._at_once(
            account_id, "request", lambda conn: erasing.erase_request(conn, account_id, request_id, user_id, now_us())
        )

    def request_group(
        self, account_id: int, user_id: str, request_group: str, goes_on: Callable[[], bool]
    ) -> ErasedCounts:
        """Erase a thread as far as it is stored by now, in steps while `goes_on`.

        Raises Draining between two of them when the server shuts down.
        """
        return self._in_steps(account_id, user_id, request_group, goes_on)

    def user(self, account_id: int, user_id: str, goes_on: Callable[[], bool]) -> ErasedCounts:
        """Erase what a user has stored by now, and the user if nothing new came; in steps as `request_group`."""
        return self._in_steps(account_id, user_id, None, goes_on)

    def _at_once(self, account_id: int, resource: str, erase: Callable[[Connection], ErasedCounts]) -> ErasedCounts:
        erased = self.writer.submit(_as_first_tried(erase), [account_id]).result()
        if not erased.interactions:
            raise NotFound(resource)
        self.erased(account_id)
        return erased

    def _in_steps(
        self, account_id: int, user_id: str, request_group: str | None, goes_on: Callable[[], bool]
    ) -> ErasedCounts:
        with self.database.read() as conn:
            part = erasing.part_of(conn, account_id, user_id, request_group)
        steps: list[ErasedCounts] = []
        while part is not None and goes_on():
            if self.draining.is_set():
                raise Draining
            try:
                step = self.writer.submit(
                    _as_first_tried(lambda conn: erasing.erase_some(conn, part, STEP, now_us())), [account_id]
                ).result()
            except TooBusy:
                if not steps:
                    raise
                time.sleep(_LOOK_SECONDS)  # a part is done already: rather wait than leave the rest
                continue
            if not step.interactions:
                break
            steps.append(step)
            self.erased(account_id)
        if not steps:
            raise NotFound("user" if request_group is None else "request_group")
        return ErasedCounts(
            sum(step.requests for step in steps),
            sum(step.interactions for step in steps),
            sum(step.images for step in steps),
        )


def _as_first_tried(erase: Callable[[Connection], ErasedCounts]) -> Callable[[Connection], ErasedCounts]:
    """An erase that may be run again, as it is not known whether it was committed: then there may be nothing left."""
    before: list[ErasedCounts] = []

    def run(conn: Connection) -> ErasedCounts:
        erased = erase(conn)
        if not erased.interactions and before:
            return before[0]
        before.append(erased)
        return erased

    return run
