"""Checks a Chroma folder in a child process: a damaged one can answer wrongly, or crash whoever opens it.

The parent says on standard input what each collection must hold; exit status 0 means that it does.
"""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reflexio_server.index import hnsw_files
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.shortage import tells_shortage

Prints = NDArray[np.float32]
SAMPLES = 50
TIMEOUT_SECONDS = 300
_VECTORS_AT_ONCE = 1000
_LOOK_SECONDS = 0.5  # how often the parent looks whether it should go on waiting
_NEAREST, _MANY = 5, 1000  # what is not among the first few may be among many
_SAME = 1 - 1e-4  # a cosine of equal vectors
_MOST_UNFOUND = 0.05


class CheckStopped(Exception):
    """The check was broken off, as the server is stopping."""


class CheckHindered(Exception):
    """The check could not be made, as files, memory or room were short; the text says which."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a collection must hold: `stamps` up to `applied`, as a digest, and a fingerprint of each one's vector.

    It may hold more, up to `newest`, and any of the `erased`. `samples` are some of the vectors, which must be found by
    themselves.
    """

    name: str
    applied: int
    newest: int
    erased: list[int]
    digest: str
    fingerprints: str
    samples: dict[int, str]

    @classmethod
    def of(
        cls,
        name: str,
        applied: int,
        newest: int,
        erased: list[int],
        stamps: list[int],
        prints: Prints,
        samples: dict[int, bytes],
    ) -> "Expected":
        """From the stamps in order, their vectors' fingerprints, and sample vectors as float32 bytes."""
        encoded = {stamp: _encode(vector) for stamp, vector in samples.items()}
        return cls(name, applied, newest, erased, _digest(stamps), _encode(prints.astype("<f4").tobytes()), encoded)


def fingerprints(matrix: NDArray[np.float32]) -> Prints:
    """A number a vector (n × dimensions), of which damage to any of its values changes the third decimal."""
    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), matrix.shape[1])
    prints: Prints = matrix @ signs
    return prints


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(data: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(data), dtype="<f4")


def _digest(stamps: list[int]) -> str:
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def check(folder: Path, expected: list[Expected], stopping: Callable[[], bool]) -> str | None:
    """What is wrong with the folder; None when it holds what it must.

    Raises CheckStopped if `stopping` says so, CheckHindered or OSError when something was short.
    """
    lifeline, ours = os.pipe()
    try:
        # More than a pipe takes at once; there need not be another folder that can be written.
        with tempfile.TemporaryFile("w+", dir=folder.parent) as asked:
            json.dump([asdict(collection) for collection in expected], asked)
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
                raise CheckStopped
            return f"checking it took longer than {TIMEOUT_SECONDS} s"
    if child.returncode == 0:
        return None
    if child.returncode < 0:
        return f"reading it ended the process with signal {-child.returncode}"
    if tells_shortage(said):
        raise CheckHindered(said.strip().splitlines()[-1])
    return (said.strip().splitlines() or ["unknown"])[-1]


def finds_itself(index: ChromaIndex, name: str, stamp: int, vector: NDArray[np.float32]) -> bool:
    """Whether a stored vector, or one that equals it, is found by itself."""
    for count in (_NEAREST, _MANY):
        stamps, cosines = index.query(name, vector, count)
        if stamp in stamps or (stamps and cosines[0] >= _SAME):
            return True
    return False


def too_many_unfound(unfound: int, tried: int) -> bool:
    """Whether so many of the tried vectors do not find themselves that the index must be damaged.

    A sound one, which is approximate, misses some now and then; mostly where many vectors are nearly equal.
    """
    return unfound > _MOST_UNFOUND * tried


def _problem(index: ChromaIndex, expected: Expected) -> str | None:
    # What was put in after `applied` was noted is put in again, so there may be more. What is newer than the newest
    # vector in SQL comes from before a backup was restored, and would stand in the way of what is there.
    erased = set(expected.erased)
    present = [stamp for stamp in index.stamps(expected.name) if stamp not in erased]
    wanted = [stamp for stamp in present if stamp <= expected.applied]
    if _digest(wanted) != expected.digest or (present and present[-1] > expected.newest):
        return f"{expected.name} does not hold the vectors it must"
    prints = _decode(expected.fingerprints)
    for start in range(0, len(wanted), _VECTORS_AT_ONCE):
        part = slice(start, start + _VECTORS_AT_ONCE)
        if not np.allclose(fingerprints(index.vectors(expected.name, wanted[part])), prints[part], rtol=0, atol=1e-3):
            return f"{expected.name} holds damaged vectors"
    unfound = [
        stamp
        for stamp, encoded in expected.samples.items()
        if not finds_itself(index, expected.name, int(stamp), _decode(encoded))
    ]
    if too_many_unfound(len(unfound), len(expected.samples)):
        return f"{expected.name} does not find {len(unfound)} of {len(expected.samples)} vectors by themselves"
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
        problem = _problem(index, Expected(**collection))
        if problem:
            print(problem, file=sys.stderr)  # noqa: T201
            return 1
    index.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
