"""What happens to senders when the interpreter exits: they deliver for a bounded time and say what is left."""

import atexit
import logging
import sys
import time
from typing import Protocol
from weakref import WeakSet

from reflexio import greenlets
from reflexio.supervised import say

EXIT_SECONDS = 5.0


class Closable(Protocol):
    """Something that delivers."""

    def close(self, timeout: float, *, ending: bool = False) -> None:
        """Deliver for at most `timeout` seconds; `ending` when it is the interpreter that ends."""


_open: WeakSet[Closable] = WeakSet()


def close_at_exit(thing: Closable) -> None:
    _open.add(thing)


def also_with_multiprocessing() -> None:
    """A forked worker of multiprocessing leaves by os._exit: no atexit, but finalizers of its own."""
    process, util = sys.modules.get("multiprocessing.process"), sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=100)


def _close_all() -> None:
    if not greenlets.usable():  # threads and locks of before gevent: waiting for them could last for ever
        return
    end = time.monotonic() + EXIT_SECONDS
    for thing in list(_open):
        try:
            thing.close(max(0.0, end - time.monotonic()), ending=True)
        except Exception:  # the others have something to deliver, too
            say(logging.getLogger("reflexio").exception, "delivering at exit failed")


atexit.register(_close_all)
