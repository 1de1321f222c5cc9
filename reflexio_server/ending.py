"""What is done for a call stops when the call ends first, as its caller went away or would wait no longer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from reflexio_server.errors import Ended

_current: ContextVar["Ending | None"] = ContextVar("ending", default=None)


class Ending:
    """Whether a call is over, and what of its work is to be stopped then."""

    def __init__(self) -> None:
        self.has_come = False
        self._stops: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def come(self) -> None:
        """Say, from any thread, that the call is over."""
        with self._lock:
            self.has_come = True
            for stop in self._stops:
                stop()

    @contextmanager
    def stopping(self, stop: Callable[[], object]) -> Iterator[None]:
        with self._lock:
            self._stops.append(stop)
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


@contextmanager
def work_of(ending: Ending) -> Iterator[None]:
    """A block in which this thread works for a call."""
    _current.set(ending)
    try:
        yield
    finally:
        if _current.get() is ending:  # an answer that nobody reads may be collected while its thread works for another
            _current.set(None)


def is_over() -> bool:
    """Whether this thread works for a call that is over."""
    ending = _current.get()
    return ending is not None and ending.has_come


def check() -> None:
    """Raise Ended when the call is over that this thread works for."""
    ending = _current.get()
    if ending is not None and ending.has_come:
        raise Ended


@contextmanager
def stopped_by(stop: Callable[[], object]) -> Iterator[None]:
    """A block during which `stop` is called when the call ends; raises Ended when it is over already."""
    ending = _current.get()
    if ending is None:
        yield
        return
    with ending.stopping(stop):
        check()
        yield
