"""A forked child must not touch its parent's channels, threads or outbox: objects named here start anew in it."""

import os
from typing import Protocol
from weakref import WeakSet

from reflexio.errors import ReflexioError


class Forkable(Protocol):
    """Something that knows how to start anew."""

    def after_fork(self) -> None:
        """Runs in the child, on its only thread, before anything else."""


_aio_used = False
_unusable = False
_forkable: WeakSet[Forkable] = WeakSet()
_abandoned: list[object] = []


def restart_after_fork(thing: Forkable) -> None:
    """From now on call `thing.after_fork()` in every forked child for as long as the thing lives."""
    _forkable.add(thing)


def abandon(thing: object) -> None:
    """Keep the parent's object alive in the child: closing or freeing a channel here could hang."""
    _abandoned.append(thing)


def mark_aio_used() -> None:
    """Remember that grpc.aio runs in this process: gRPC of either kind hangs or crashes in children forked from it."""
    global _aio_used
    _aio_used = True


def check_usable() -> None:
    """Raise where gRPC would hang or crash."""
    if _unusable:
        raise ReflexioError(
            "gRPC cannot be used here: this process was forked from one that had used an AsyncReflexioClient. Use "
            "clients after the fork only, the blocking ReflexioClient, or the start method 'spawn'"
        )


def _restart_all() -> None:
    global _unusable
    _unusable = _aio_used
    for thing in list(_forkable):
        thing.after_fork()


os.register_at_fork(after_in_child=_restart_all)
