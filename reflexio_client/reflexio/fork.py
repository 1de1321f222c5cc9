"""A forked child must not touch its parent's channels, threads or outbox: objects named here start anew in it."""

import os
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """Something that knows how to start anew."""

    def after_fork(self) -> None:
        """Runs in the child, on its only thread, before anything else."""


_forkable: WeakSet[Forkable] = WeakSet()
_abandoned: list[object] = []


def restart_after_fork(thing: Forkable) -> None:
    """From now on call `thing.after_fork()` in every forked child for as long as the thing lives."""
    _forkable.add(thing)


def abandon(thing: object) -> None:
    """Keep the parent's object alive in the child: closing or freeing a channel here could hang."""
    _abandoned.append(thing)


def _restart_all() -> None:
    for thing in list(_forkable):
        thing.after_fork()


os.register_at_fork(after_in_child=_restart_all)
