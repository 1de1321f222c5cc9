"""Threads that never end in silence: whatever ends their work is logged and counted, and the work begins again.

A thread dies of any BaseException: of a panic in native code, a callback's SystemExit, a warning that was turned into
an error, a log line for a standard error that is closed. Who feeds a dead thread waits for ever and is not told why.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_START_SECONDS = 0.05
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0


class Supervised:
    """Runs `work` on a daemon thread, and again after a pause whenever anything but its return ends it.

    Attributes:
        name: of the thread.
        failures: how often the work was ended by something it did not handle.
        last_failure: what ended it last, such as "PanicException: too many open files"; empty once `well` was called
            after it. For stats, health and metrics, not for callers of an API.
        over: set by `end`: the work is to return.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        logger: logging.Logger,
        *,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        """`work`: returns when there is nothing to do any more. The pauses between two beginnings, in seconds, double
        from `first_pause` to `longest_pause`, and begin anew when the work says that it goes `well`."""
        self.name = name
        self.failures = 0
        self.last_failure = ""
        self._work = work
        self._logger = logger
        self._pauses = first_pause, longest_pause
        self._pause = first_pause
        self.over = threading.Event()
        # Not Thread.is_alive(): with a signal handler that raises inside it, it declares a running thread ended.
        self._running = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin. Raises RuntimeError where no thread can start, as when the interpreter exits."""
        self._running.acquire(blocking=False)
        try:
            self._thread.start()
        except BaseException:
            if self._thread.ident is None:
                time.sleep(_START_SECONDS)  # it may just be coming up, when a signal handler raised
            if self._thread.ident is None:
                self._running.release()
            raise

    def is_alive(self) -> bool:
        return self._running.locked()

    def is_this(self) -> bool:
        """Whether the caller runs on this very thread, as a callback of the work does."""
        return threading.current_thread() is self._thread

    def well(self) -> None:
        """For the work: a round of it succeeded."""
        self.last_failure = ""
        self._pause = self._pauses[0]

    def end(self, timeout: float | None = None) -> bool:
        """Begin the work no more, and wait until it returns, for at most `timeout` seconds; False if it goes on.

        Where the work does not heed `over`, whoever calls this makes it return. On the thread itself, or before its
        start, there is nothing to wait for.
        """
        self.over.set()
        if self.is_this() or not self.is_alive():
            return True
        self._thread.join(timeout)
        return not self.is_alive()

    def _run(self) -> None:
        try:
            self._work_on()
        finally:
            self._running.release()

    def _work_on(self) -> None:
        while True:
            try:
                self._work()
                return
            except BaseException as error:
                if self.over.is_set():  # whoever ends it may have closed what the work uses
                    return
                self.failures += 1
                self.last_failure = described(error)
                with suppress(BaseException):  # not even a log handler may end it
                    say(self._logger.exception, "the thread %s failed; it goes on in %.3g s", self.name, self._pause)
            if self.over.wait(self._pause):
                return
            self._pause = min(2 * self._pause, self._pauses[1])


def described(error: BaseException) -> str:
    """What it is and says, for many say nothing: "SystemExit: 1", "CancelledError"."""
    try:
        said = str(error)
    except BaseException:  # an error's own text may raise anything
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def say(log: Callable[..., Any], *arguments: object, **named: Any) -> None:
    """Log, or pass over that this is not possible: a handler may raise, as logging's own does on a closed stream.

    For threads that must go on, and for what must be finished whether or not anybody hears of it.
    """
    if isinstance(getattr(log, "__self__", None), logging.Logger):
        named.setdefault("stacklevel", 2)  # the record names the caller
    with suppress(Exception):
        log(*arguments, **named)
