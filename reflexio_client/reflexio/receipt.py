"""What a publish that does not wait returns."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future

from reflexio.errors import DeadlineExceededError, ReflexioError
from reflexio.outcomes import PublishUserInteractionResponse


class Receipt:
    """A publish on its way to the server.

    Attributes:
        request_id: the id under which it is stored.
    """

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self.hurry: Callable[[], None] = lambda: None
        self._pid = os.getpid()
        self._outcome: Future[PublishUserInteractionResponse] = Future()
        self._outcome.set_running_or_notify_cancel()  # who stops waiting must not cancel the delivery

    def __repr__(self) -> str:
        return f"{type(self).__name__}(request_id={self.request_id!r}, done={self.done})"

    @property
    def done(self) -> bool:
        """The server has stored it or refused it, or the client was closed before."""
        return self._outcome.done()

    def resolve(self) -> None:
        """For the sender: it is stored."""
        self._outcome.set_result(PublishUserInteractionResponse(True, "stored", self.request_id))

    def fail(self, error: ReflexioError) -> None:
        """For the sender: it will not be stored."""
        self._outcome.set_exception(error)

    def _outcome_here(self) -> Future[PublishUserInteractionResponse]:
        if self._pid != os.getpid() and not self._outcome.done():
            raise ReflexioError(f"{self.request_id} is delivered by the process that published it, before the fork")
        if not self._outcome.done():
            self.hurry()
        return self._outcome

    def _late(self, timeout: float | None) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"{self.request_id} was not acknowledged within {timeout} s; it stays in the spool"
        )


class PublishReceipt(Receipt):
    """A publish on its way to the server.

    Attributes:
        request_id: the id under which it is stored.
    """

    def wait(self, timeout: float | None = None) -> PublishUserInteractionResponse:
        """Wait until it is stored.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            DeadlineExceededError: it is still on its way.
            ClosedError: the client was closed before it could be delivered.
            ReflexioError: it was refused; the child says why.
        """
        outcome = self._outcome_here()
        try:
            return outcome.result(timeout)
        except TimeoutError:
            if outcome.done():
                return outcome.result()  # it came at the last moment
        raise self._late(timeout)


class AsyncPublishReceipt(Receipt):
    """As `PublishReceipt`, with an awaitable `wait`."""

    async def wait(self, timeout: float | None = None) -> PublishUserInteractionResponse:
        """As `PublishReceipt.wait`."""
        outcome = self._outcome_here()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(outcome), timeout)
        except TimeoutError:
            if outcome.done():
                return outcome.result()  # it came at the last moment
        raise self._late(timeout)
