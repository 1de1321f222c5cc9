"""A forked child must not touch its parent's channels, threads or spool: objects named here start anew in it."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from reflexio import greenlets
from reflexio.errors import ReflexioError


class Forkable(Protocol):
    """Something that knows how to start anew."""

    def after_fork(self) -> None:
        """Runs in the child, on its only thread, before anything else."""


class Busy(Protocol):
    """Something that must be at rest while the process is copied."""

    def interrupt(self) -> None:
        """Runs in the parent when a fork has waited in vain: end the call in progress; it can be made again."""

    def before_fork(self) -> None:
        """Runs in the parent just before a fork."""

    def after_fork_in_parent(self) -> None:
        """Runs in the parent just after it."""


_CALL_SECONDS = 2.0  # a fork waits so long for calls to end by themselves, and again after interrupting some
# gRPC's own threads go on with a channel that was closed under a call; copied just then, 6 children of 240 hung for
# ever when they opened their first channel, after this pause none of 420.
_SETTLE_SECONDS = 0.2


class _Calls:
    """The blocking calls in progress.

    With a thread inside gRPC at the moment of a fork, gRPC leaves out its own preparations for it, and the child dies
    of a segmentation fault in its first calls.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()  # reentrant: a signal handler may call, or fork
        self._threads: Counter[int] = Counter()
        self._forking: int | None = None

    @contextmanager
    def one(self) -> Iterator[None]:
        """Around a call; waits while the process is being copied."""
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._forking in (None, thread) or thread in self._threads)
            self._threads[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._threads[thread] -= 1
                if not self._threads[thread]:
                    del self._threads[thread]
                    self._changed.notify_all()

    def hold(self, seconds: float) -> bool:
        """Let no thread begin a call, and wait for those in progress; false if some still are after `seconds`."""
        thread = threading.get_ident()
        with self._changed:
            self._forking = thread
            return self._changed.wait_for(lambda: not self._threads.keys() - {thread}, seconds)

    def let_go(self) -> None:
        """The fork is over."""
        with self._changed:
            self._forking = None
            self._changed.notify_all()


_aio_used = False
_unusable = False
_calls = _Calls()
_busy: WeakSet[Busy] = WeakSet()
_forkable: WeakSet[Forkable] = WeakSet()
_abandoned: list[object] = []
_prepared: list[Busy] = []
_private: set[int] = set()
_gate = threading.RLock()
_one_fork = threading.RLock()


def restart_after_fork(thing: Forkable) -> None:
    """From now on call `thing.after_fork()` in every forked child for as long as the thing lives."""
    _forkable.add(thing)


def rest_while_forking(thing: Busy) -> None:
    """From now on call its methods around every fork for as long as the thing lives."""
    _busy.add(thing)


def call_in_progress() -> AbstractContextManager[None]:
    """Around every blocking call of gRPC: a fork in another thread waits for its end, for some seconds at most."""
    return _calls.one()


def abandon(thing: object) -> None:
    """Keep the parent's object alive in the child: closing or freeing a channel here could hang."""
    _abandoned.append(thing)
    with suppress(ImportError, AttributeError):  # not even the end of the interpreter may free what the parent uses
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def open_private(path: Path, flags: int, mode: int) -> int:
    """As os.open; a forked child closes its copy of the descriptor before it does anything else."""
    with _gate:
        descriptor = os.open(path, flags, mode)
        _private.add(descriptor)
        return descriptor


def close_private(descriptor: int) -> None:
    """Close what `open_private` opened."""
    with _gate:
        if descriptor in _private:  # else this is a child, where it is closed
            _private.remove(descriptor)
            os.close(descriptor)


def mark_aio_used() -> None:
    """Remember that grpc.aio runs in this process: gRPC of either kind hangs or crashes in children forked from it."""
    global _aio_used
    _aio_used = True


def usable() -> bool:
    """gRPC can be used here."""
    return not _unusable


def check_usable() -> None:
    """Before gRPC is used: raise where it would hang or crash."""
    if _unusable:
        raise ReflexioError(
            "gRPC cannot be used here: this process was forked from one that had used an AsyncReflexioClient. Use "
            "clients after the fork only, the blocking ReflexioClient, or the start method 'spawn'"
        )
    greenlets.prepare()


def _prepare_all() -> None:
    _one_fork.acquire()
    _prepared[:] = _busy
    if not _calls.hold(_CALL_SECONDS):
        for thing in _prepared:
            thing.interrupt()
        _calls.hold(_CALL_SECONDS)
        time.sleep(_SETTLE_SECONDS)
    for thing in _prepared:
        thing.before_fork()
    _gate.acquire()  # last, as those that are busy take it too


def _go_on_all() -> None:
    _gate.release()
    for thing in _prepared:
        thing.after_fork_in_parent()
    _prepared.clear()
    _calls.let_go()
    _one_fork.release()


def _restart_all() -> None:
    global _calls, _gate, _one_fork, _unusable
    _calls, _gate, _one_fork = _Calls(), threading.RLock(), threading.RLock()
    _unusable = _aio_used
    greenlets.start_anew()
    _prepared.clear()
    while _private:
        os.close(_private.pop())
    for thing in list(_forkable):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_prepare_all, after_in_parent=_go_on_all, after_in_child=_restart_all)
