"""A forked child must not touch its parent's channels, threads or spool: objects named here start anew in it."""

import os
import threading
import time
from collections import deque
from contextlib import AbstractContextManager, suppress
from itertools import compress
from operator import methodcaller
from pathlib import Path
from typing import Any, Protocol, cast
from weakref import WeakSet, WeakValueDictionary

from reflexio import greenlets
from reflexio.errors import ReflexioError


class Forkable(Protocol):
    """Something that knows how to start anew."""

    def _after_fork(self) -> None:
        """Runs in the child, on its only thread, before anything else."""


class Lock(Protocol):
    """What threading's reentrant locks and conditions have in common."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Whether it was had within `timeout` seconds."""

    def release(self) -> None:
        """Let it go once."""


class Busy(Protocol):
    """Something that must be at rest while the process is copied."""

    @property
    def at_rest(self) -> Lock:
        """The lock without which it does nothing; held while the process is copied."""

    def interrupt(self) -> None:
        """Runs in the parent when a fork has waited in vain: end the call in progress; it can be made again."""


_CALL_SECONDS = 2.0  # a fork waits so long for calls to end by themselves, and again after interrupting some
_REST_SECONDS = 10.0  # and no longer for what is busy to be at rest
_TRIES = 100  # of preparing a fork, while signal handlers raise
# gRPC's own threads go on with a channel that was closed under a call; copied just then, 6 children of 240 hung for
# ever when they opened their first channel, after this pause none of 420.
_SETTLE_SECONDS = 0.2


class _Calls:
    """The blocking calls in progress: each thread that makes one holds a lock of its own.

    With a thread inside gRPC at the moment of a fork, gRPC leaves out its own preparations for it, and the child dies
    of a segmentation fault in its first calls.
    """

    def __init__(self) -> None:
        self.beginning = threading.RLock()
        """Taken where a thread makes its first call, and held while the process is copied."""
        self._locks: WeakValueDictionary[int, Any] = WeakValueDictionary()

    def one(self) -> AbstractContextManager[bool]:
        """Around a call; waits while the process is being copied."""
        thread = threading.get_ident()
        lock = self._locks.get(thread)  # there is one while this thread makes a call, so a signal handler may too
        if lock is None:
            with self.beginning:
                lock = self._locks[thread] = threading.RLock()
        return cast(AbstractContextManager[bool], lock)

    def locks(self) -> list[Lock]:
        """Those of the calls in progress."""
        return list(self._locks.values())


_aio_used = False
_unusable = False
_restarted_in = os.getpid()
_calls = _Calls()
_busy: WeakSet[Busy] = WeakSet()
_forkable: WeakSet[Forkable] = WeakSet()
_abandoned: list[object] = []
_held: dict[int, list[Lock]] = {}  # by the threads that fork
_private: set[int] = set()
_gate = threading.RLock()
_one_fork = threading.RLock()


def restart_after_fork(thing: Forkable) -> None:
    """From now on call `thing._after_fork()` in every forked child for as long as the thing lives."""
    _forkable.add(thing)


def rest_while_forking(thing: Busy) -> None:
    """From now on have it at rest during every fork for as long as the thing lives."""
    _busy.add(thing)


def call_in_progress() -> AbstractContextManager[bool]:
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


def _take(lock: Lock, held: list[Lock], seconds: float = -1) -> bool:
    """Acquire a lock and note it, in one step of the interpreter: no signal handler's exception comes in between."""
    if lock not in held:
        held.extend(compress((lock,), map(methodcaller("acquire", timeout=seconds), (lock,))))
    return lock in held


def _calls_ended(held: list[Lock]) -> bool:
    end = time.monotonic() + _CALL_SECONDS
    ended = [_take(lock, held, max(0.0, end - time.monotonic())) for lock in _calls.locks()]
    return all(ended)


def _come_to_rest(held: list[Lock]) -> None:
    _take(_one_fork, held)
    _take(_calls.beginning, held)
    if not _calls_ended(held):
        for thing in list(_busy):
            thing.interrupt()
        _calls_ended(held)
        time.sleep(_SETTLE_SECONDS)
    for thing in list(_busy):
        _take(thing.at_rest, held, _REST_SECONDS)
    _take(_gate, held)  # last, as those that are busy take it too


def _prepare_all() -> None:
    held = _held.setdefault(threading.get_ident(), [])
    raised: BaseException | None = None
    for _ in range(_TRIES):
        try:
            _come_to_rest(held)
            break
        except BaseException as error:  # of a signal handler: no fork can be called off any more
            raised = error
    if raised is not None:
        raise raised


def _go_on_all() -> None:
    held = _held.get(threading.get_ident(), [])
    try:
        deque(map(methodcaller("release"), iter(held.pop, None)), maxlen=0)  # one step too
    except IndexError:  # it was the last
        _held.pop(threading.get_ident(), None)


def _restart_all() -> None:
    global _calls, _gate, _one_fork, _restarted_in, _unusable
    if _restarted_in == os.getpid():
        return
    _calls, _gate, _one_fork = _Calls(), threading.RLock(), threading.RLock()
    _unusable = _aio_used
    greenlets.start_anew()
    _held.clear()
    while _private:
        os.close(_private.pop())
    for thing in list(_forkable):
        thing._after_fork()
    _restarted_in = os.getpid()


if hasattr(os, "register_at_fork"):
    for _ in range(2):  # a signal handler may raise before the first step of one
        os.register_at_fork(before=_prepare_all, after_in_parent=_go_on_all, after_in_child=_restart_all)
