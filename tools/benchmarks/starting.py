"""What a start computes, from exec until the server serves."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from tools.benchmarks.processes import cpu_s
from tools.benchmarks.stores import empty
from tools.server_process import ServerProcess

STARTS = 5
_REST_SECONDS, _LONGEST_SECONDS = 0.5, 30.0


def start(arguments: tuple[str, ...]) -> dict[str, Any]:
    with empty(*arguments) as store:
        store.end_server()
        starts = [of_start(lambda: ServerProcess(store.data_dir, None, *arguments)) for _ in range(STARTS)]
    own, children = (round(median(figures), 2) for figures in zip(*starts, strict=True))
    return {"start_cpu_s": own, "start_children_cpu_s": children}


def of_start(begin: Callable[[], ServerProcess]) -> tuple[float, float]:
    """CPU seconds of the server's own process until it serves, and of its children until they are at rest."""
    server = begin()
    own, children = cpu_s(server.process.pid)
    deadline = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_REST_SECONDS)
        before, children = children, cpu_s(server.process.pid)[1]
        if children - before < 0.02:
            break
    server.terminate()
    return own, children
