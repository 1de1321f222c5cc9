"""Locks that the exception of a signal handler leaves as they should be, at whatever moment it comes.

The interpreter calls signal handlers between any two of its steps on the main thread: also just after a lock was taken
and before anything is bound to let it go. `with` on a lock written in C is one step; threading.Condition is written in
Python, and so is what concurrent.futures makes of it.
"""

import threading
from concurrent.futures import Future
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

T = TypeVar("T")


class Condition(threading.Condition):
    """A reentrant threading.Condition that no exception leaves locked."""

    if not TYPE_CHECKING:  # these find the lock's own methods without a step of the interpreter
        __enter__ = property(attrgetter("_lock.__enter__"))
        __exit__ = property(attrgetter("_lock.__exit__"))

    def wait(self, timeout: float | None = None) -> bool:
        """As threading.Condition.wait; interrupted at any moment, it holds the lock again, as `with` expects."""
        try:
            return super().wait(timeout)
        except BaseException:
            if not self._is_owned():
                self.acquire()
            raise

    if TYPE_CHECKING:

        def _is_owned(self) -> bool: ...


class Outcome(Future[T]):
    """A Future that whoever stops waiting for it cannot cancel, and cannot leave locked."""

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition()
        self.set_running_or_notify_cancel()
