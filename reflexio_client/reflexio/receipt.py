"""What a publish or a delete that does not wait returns."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, Never, TypeVar

from reflexio import checks
from reflexio.errors import DeadlineExceededError, ReflexioError
from reflexio.locks import Outcome
from reflexio.outcomes import DeleteResponse, PublishUserInteractionResponse

T = TypeVar("T")


class Receipt(Generic[T]):
    """Something on its way to the server.

    Attributes:
        request_id: the id under which it lies in the spool.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._hurry: Callable[[], None] = lambda: None
        self._pid = os.getpid()
        self._outcome: Outcome[T] = Outcome()

    def __reduce_ex__(self, _: object) -> Never:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, as it waits in the process that published: hand on "
            "its request_id, or what wait() returns"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(request_id={self.request_id!r}, done={self.done})"

    @property
    def done(self) -> bool:
        """The server has carried it out or refused it, or the client was closed before."""
        return self._outcome.done()

    def _resolve(self, outcome: T) -> None:
        """For the sender: the server has carried it out."""
        self._outcome.set_result(outcome)

    def _fail(self, error: ReflexioError) -> None:
        """For the sender: it will not be carried out."""
        self._outcome.set_exception(error)

    def _outcome_here(self) -> Outcome[T]:
        if self._pid != os.getpid() and not self._outcome.done():
            raise ReflexioError(f"{self.request_id} is delivered by the process that accepted it, before the fork")
        if not self._outcome.done():
            self._hurry()
        return self._outcome

    def _late(self, timeout: float | None) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"{self.request_id} was not acknowledged within {timeout} s; it stays in the spool"
        )

    def _wait(self, timeout: float | None) -> T:
        seconds = checks.wait("timeout", timeout)
        outcome = self._outcome_here()
        try:
            return outcome.result(seconds)
        except TimeoutError:
            if outcome.done():
                return outcome.result()  # it came at the last moment
        raise self._late(timeout)

    async def _wait_async(self, timeout: float | None) -> T:
        seconds = checks.wait("timeout", timeout)
        outcome = self._outcome_here()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(outcome), seconds)
        except TimeoutError:
            if outcome.done():
                return outcome.result()  # it came at the last moment
        raise self._late(timeout)


class PublishReceipt(Receipt[PublishUserInteractionResponse]):
    """A publish on its way to the server.

    Attributes:
        request_id: the id under which it is stored.
    """

    def wait(self, timeout: float | None = None) -> PublishUserInteractionResponse:
        """Wait until it is stored.

        Args:
            timeout: seconds; 0: just look; None: as long as it takes.

        Raises:
            DeadlineExceededError: it is still on its way.
            ClosedError: the client was closed before it could be delivered.
            RequestErasedError: it was stored by an attempt whose answer was lost, and erased since.
            ReflexioError: it was refused; the child says why.
        """
        return self._wait(timeout)


class AsyncPublishReceipt(Receipt[PublishUserInteractionResponse]):
    """As `PublishReceipt`, with an awaitable `wait`."""

    async def wait(self, timeout: float | None = None) -> PublishUserInteractionResponse:
        """As `PublishReceipt.wait`."""
        return await self._wait_async(timeout)


class DeleteReceipt(Receipt[DeleteResponse]):
    """A delete on its way to the server.

    Attributes:
        request_id: the id under which it lies in the spool, such as "delete_user_…"; `on_delivery` gets it too.
    """

    def wait(self, timeout: float | None = None) -> DeleteResponse:
        """Wait until it is carried out.

        Args:
            timeout: seconds; 0: just look; None: as long as it takes.

        Raises:
            NotFoundError: nothing of it is there. It never was, or was erased before, perhaps by an attempt of this
                very delete whose answer was lost.
            DeadlineExceededError: it is still on its way.
            ClosedError: the client was closed before it could be delivered.
            ReflexioError: it was refused; the child says why.
        """
        return self._wait(timeout)


class AsyncDeleteReceipt(Receipt[DeleteResponse]):
    """As `DeleteReceipt`, with an awaitable `wait`."""

    async def wait(self, timeout: float | None = None) -> DeleteResponse:
        """As `DeleteReceipt.wait`."""
        return await self._wait_async(timeout)
