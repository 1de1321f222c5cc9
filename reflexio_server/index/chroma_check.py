"""Checks a Chroma folder in a child process: a damaged one can answer wrongly, or crash whoever opens it.

The parent says on standard input what each collection must hold; exit status 0 means that it does.
"""

import base64
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index import hnsw_files
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.nearest import (
    Expected,
    Stopped,
    Unavailable,
    are_equal,
    differences,
    finds_itself,
    fingerprints,
    too_many_unfound,
)
from reflexio_server.shortage import tells_shortage

N = TypeVar("N", np.int64, np.float32)

TIMEOUT_SECONDS = 300
_VECTORS_AT_ONCE = 1000
_LOOK_SECONDS = 0.5  # how often the parent looks whether it should go on waiting


def _packed(expected: Expected) -> dict[str, Any]:
    return {
        "name": expected.name,
        "applied": expected.applied,
        "stamps": _encode(expected.stamps),
        "erased": _encode(expected.erased),
        "prints": _encode(expected.prints),
        "samples": {stamp: _encode(vector) for stamp, vector in expected.samples.items()},
    }


def _unpacked(packed: dict[str, Any]) -> Expected:
    return Expected(
        packed["name"],
        packed["applied"],
        _decode(packed["stamps"], np.int64),
        _decode(packed["erased"], np.int64),
        _decode(packed["prints"], np.float32),
        {int(stamp): _decode(vector, np.float32) for stamp, vector in packed["samples"].items()},
    )


def _encode(array: NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode()


def _decode(data: str, kind: type[N]) -> NDArray[N]:
    return np.frombuffer(base64.b64decode(data), dtype=kind)


def check(folder: Path, expected: list[Expected], stopping: Callable[[], bool]) -> str | None:
    """What is wrong with the folder; None when it holds what it must.

    Raises Stopped if `stopping` says so, Unavailable or OSError when something was short.
    """
    lifeline, ours = os.pipe()
    try:
        # More than a pipe takes at once; there need not be another folder that can be written.
        with tempfile.TemporaryFile("w+", dir=folder.parent) as asked:
            json.dump([_packed(collection) for collection in expected], asked)
            asked.seek(0)
            child = subprocess.Popen(
                [sys.executable, "-m", "reflexio_server.index.chroma_check", str(folder), str(lifeline)],
                stdin=asked,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=[lifeline],
            )
        return _verdict(child, stopping)
    finally:
        os.close(lifeline)
        os.close(ours)


def _verdict(child: subprocess.Popen[str], stopping: Callable[[], bool]) -> str | None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _, said = child.communicate(timeout=_LOOK_SECONDS)
            break
        if stopping() or time.monotonic() > deadline:
            child.kill()
            child.communicate()
            if stopping():
                raise Stopped
            return f"checking it took longer than {TIMEOUT_SECONDS} s"
    if child.returncode == 0:
        return None
    if child.returncode < 0:
        return f"reading it ended the process with signal {-child.returncode}"
    if tells_shortage(said):
        raise Unavailable(said.strip().splitlines()[-1])
    return (said.strip().splitlines() or ["unknown"])[-1]


def _problem(index: ChromaIndex, expected: Expected) -> str | None:
    name, needed = expected.name, expected.needed
    if any(map(len, differences(index, expected))):
        return f"{name} does not hold the vectors it must"
    for start in range(0, len(needed), _VECTORS_AT_ONCE):
        part = slice(start, start + _VECTORS_AT_ONCE)
        if not are_equal(fingerprints(index.vectors(name, needed[part].tolist())), expected.prints[part]):
            return f"{name} holds damaged vectors"
    unfound = [stamp for stamp, vector in expected.samples.items() if not finds_itself(index, name, stamp, vector)]
    if too_many_unfound(len(unfound), len(expected.samples)):
        return f"{name} does not find {len(unfound)} of {len(expected.samples)} vectors by themselves"
    return None


def _end_with_parent(lifeline: int) -> None:
    """Reading Chroma can write to it: after the parent was killed, its successor must have the folder for itself."""
    os.read(lifeline, 1)  # returns when the other end is closed
    os._exit(1)


def main() -> int:
    """The child's side."""
    folder, lifeline = Path(sys.argv[1]), int(sys.argv[2])
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()
    if problem := hnsw_files.problem(folder):
        print(problem, file=sys.stderr)  # noqa: T201
        return 1
    index = ChromaIndex(folder)
    for collection in json.load(sys.stdin):
        problem = _problem(index, _unpacked(collection))
        if problem:
            print(problem, file=sys.stderr)  # noqa: T201
            return 1
    index.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
