"""Names the parts of a call, for whoever looks where its time goes: nobody does, unless tracing is on."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar

Watch = Callable[[str], AbstractContextManager[object]]

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)


def stage(name: str) -> AbstractContextManager[object]:
    """A block that is the part `name` of the call that this thread is handling."""
    watch = _watch.get()
    return nullcontext() if watch is None else watch(name)


def watch_stages(watch: Watch) -> None:
    """Let `watch` make the blocks of this thread's call, until it leaves the context that grpc made for the call."""
    _watch.set(watch)
