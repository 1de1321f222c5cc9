"""The end of calls whose client keeps silent."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from reflexio.supervised import Supervised, say
from reflexio_server.errors import Unauthenticated

logger = logging.getLogger(__name__)

RECHECK_SECONDS = 10.0
"""How often a stream's key is looked at; with the 15 s that a key is cached, a revoked one stops within 25 s."""
_LOOK_SECONDS = 0.5


@dataclass(slots=True)
class _Wait:
    until: float
    look: float  # when to look at the key again
    recheck: Callable[[], object] | None


class Watchdog:
    """Cancels calls that wait for their client for longer than `seconds`: grpc itself would wait for ever.

    A client that does not send the message of its call, or does not read the answer, would hold a worker or memory.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waits: dict[grpc.ServicerContext, _Wait] = {}
        self.thread = Supervised("watchdog", self._work, logger)
        self.thread.start()

    def begin(
        self, context: grpc.ServicerContext, most: float | None = None, recheck: Callable[[], object] | None = None
    ) -> None:
        """The call waits for its client from now on; at most `most` seconds if that is less than usual.

        It is cancelled before, when `recheck` raises Unauthenticated meanwhile: a client may take long for one answer.
        """
        now = time.monotonic()
        seconds = self.seconds if most is None else min(most, self.seconds)
        self._waits[context] = _Wait(now + seconds, now + RECHECK_SECONDS, recheck)

    def end(self, context: grpc.ServicerContext) -> None:
        """The client did what it had to."""
        self._waits.pop(context, None)

    def _work(self) -> None:
        while not self.thread.over.wait(min(_LOOK_SECONDS, self.seconds / 2)):
            now = time.monotonic()
            for context, wait in self._waits.copy().items():
                if (wait.until < now or not _may_go_on(wait, now)) and self._waits.pop(context, None) is not None:
                    say(
                        logger.debug,
                        "a call ends: its client sent or read nothing for too long, or its key was revoked",
                    )
                    context.cancel()
            self.thread.well()


def _may_go_on(wait: _Wait, now: float) -> bool:
    if wait.recheck is None or now < wait.look:
        return True
    wait.look = now + RECHECK_SECONDS
    try:
        wait.recheck()
    except Unauthenticated:
        return False
    except Exception:
        say(logger.warning, "the key of a call could not be looked at again", exc_info=True)
    return True
