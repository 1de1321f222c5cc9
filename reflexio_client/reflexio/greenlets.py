"""Greenlets in place of threads: gRPC is told of gevent's; what would stop the process is refused in words."""

import sys
import threading
from importlib import import_module
from typing import Any

from reflexio.errors import ConfigurationError, ReflexioError

_CALLS_AT_ONCE = 100  # each call that waits takes a thread of gRPC's pool; one connection takes no more calls
_used: tuple[bool, int] | None = None  # since gRPC was first needed here: with gevent, and on which thread


def check(*, awaited: bool = False) -> None:
    """Raise ConfigurationError where a client cannot work; `awaited` for one with awaitable methods."""
    if _patched("eventlet.patcher", "is_monkey_patched", "thread"):
        raise ConfigurationError(
            "eventlet has replaced threads by greenlets, which gRPC does not know: one call would stop the whole "
            "process. Use gevent or real threads (gunicorn: -k gevent or -k gthread), or "
            "eventlet.monkey_patch(thread=False)"
        )
    if awaited and _with_gevent():
        raise ConfigurationError(
            "gevent has replaced threads by greenlets, in which gRPC's asyncio side never gets its turn: use the "
            "blocking ReflexioClient, whose calls let other greenlets run"
        )


def prepare() -> None:
    """Before gRPC is used: let it wait in greenlets where gevent has replaced threads by them.

    Raises ReflexioError where gRPC was in use before threads were replaced, or on another thread than this.
    """
    global _used
    if _used is None:
        check()
        if _with_gevent():
            _tell_grpc()
        _used = _with_gevent(), threading.get_native_id()
    elif objection := _objection(*_used):
        raise ReflexioError(objection)


def usable() -> bool:
    """What uses gRPC can be ended here without stopping the process."""
    return _used is None or not _objection(*_used)


def _objection(green: bool, thread: int) -> str:
    if green != _with_gevent():
        return (
            "gevent has replaced threads after gRPC was used with real ones, which stops both: call "
            "gevent.monkey.patch_all() first of all, before anything is published, read or searched"
        )
    if green and thread != threading.get_native_id():
        return (
            "under gevent, gRPC works on one thread: use the client in greenlets of the thread that used it first, "
            "not in gevent's thread pool or another native thread"
        )
    return ""


def start_anew() -> None:
    global _used
    _used = None


def _with_gevent() -> bool:
    return _patched("gevent.monkey", "is_module_patched", "threading")


def _patched(module: str, asked: str, name: str) -> bool:
    """What a library that is loaded says about a module of Python's; not loaded, it has replaced nothing."""
    library = sys.modules.get(module)
    return library is not None and bool(getattr(library, asked)(name))


def _tell_grpc() -> None:
    hub: Any = import_module("gevent").get_hub()
    theirs = hub.threadpool
    hub.threadpool = hub.threadpool_class(_CALLS_AT_ONCE, hub=hub)  # gRPC takes what it finds there at this moment
    try:
        import_module("grpc.experimental.gevent").init_gevent()
    finally:
        hub.threadpool = theirs  # with few threads, calls that hang would keep the application's look-ups of names
