"""The process that reads pictures: started and spoken to by ocr.py, which says what it may use up.

What it is given comes from anybody, and goes through native code. So it has nothing of the server's but the networks'
files, which it reads before the first picture; from then on it can open no file and no connection, write no file and
start no process, and its memory and processor time have a limit. What it answers is JSON: nothing that the server
would run. It tells a picture that cannot be read from a fault that passes, and ends after whatever was not foreseen.
"""

import contextlib
import json
import mmap
import os
import resource
import sys
import time
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from PIL import Image

from reflexio_server.index import child
from reflexio_server.index.ocr_bounds import Bounds
from reflexio_server.index.ocr_characters import Characters, in_order
from reflexio_server.index.ocr_files import DETECTOR, RECOGNIZER, read_checked
from reflexio_server.index.ocr_lines import Box, find_lines
from reflexio_server.index.ocr_picture import FORMATS, Unreadable, decode
from reflexio_server.index.session import open_session

Kind = Literal["ready", "text", "problem", "failed"]
"""Of an answer: that the process can read, what a picture says, why it is unreadable, or what fails and passes."""

_NICE = 10  # whoever asks for something goes first
_PROBE = 256 * 1024 * 1024  # bytes that a system has which is not short of memory
_ORIENTATION = 0x0112  # in Exif
_TURNED = 6  # by 90°


class Networks:
    """Both networks, loaded."""

    def __init__(self, model_dir: Path) -> None:
        self._detector = open_session(read_checked(model_dir / DETECTOR))
        self._characters = Characters(open_session(read_checked(model_dir / RECOGNIZER)))

    def read(self, data: bytes, bounds: Bounds) -> str:
        """What stands in a picture; its smallest lines are left out where all would be too much, or take too long.

        Raises what `decode` and onnxruntime do.
        """
        until = time.process_time() + bounds.cpu_seconds / 2
        image = decode(data, bounds.pixels)
        pieces: list[tuple[Box, str]] = []
        length = 0
        for box in find_lines(self._detector, image):
            if time.process_time() > until or length > bounds.characters:
                break
            if text := self._characters.read(image, box):
                pieces.append((box, text))
                length += len(text) + 1
        return in_order(pieces)[: bounds.characters]


def main() -> None:
    """Read the pictures that come over the connection until it is closed, or none comes for long."""
    child.begin()
    os.nice(_NICE)
    model_dir, connection, bounds = Path(sys.argv[1]), Connection(int(sys.argv[2])), Bounds(**json.loads(sys.argv[3]))
    os.set_blocking(sys.stderr.fileno(), False)  # nobody reads it before the end
    try:
        networks = Networks(model_dir)
        _warm_up(networks, bounds)
        _confine(bounds)
    except BaseException as error:
        _answer(connection, "failed", f"its process could not begin: {type(error).__name__}: {error}")
        os._exit(1)
    _answer(connection, "ready", "")
    while connection.poll(bounds.idle_seconds):
        try:
            data = connection.recv_bytes()
        except (EOFError, OSError):
            break
        _limit_time(bounds.cpu_seconds)
        kind, said, goes_on = _read(networks, data, bounds)
        _answer(connection, kind, said)
        if not goes_on:
            break
    os._exit(0)


def _read(networks: Networks, data: bytes, bounds: Bounds) -> tuple[Kind, str, bool]:
    """An answer, and whether this process is sound."""
    try:
        return "text", networks.read(data, bounds), True
    except Unreadable as error:
        return "problem", str(error), True
    except BaseException as error:
        if not _is_of_memory(error):
            return "problem", f"reading it failed ({type(error).__name__})", False
    if _system_is_short():
        return "failed", "the system is short of memory", False
    return "problem", f"it needs more than {bounds.memory // 1024**2:,} MiB of memory", False


def _answer(connection: Connection, kind: Kind, said: str) -> None:
    with contextlib.suppress(OSError):  # the server is gone, or waits no longer
        connection.send_bytes(json.dumps([kind, said]).encode())


def _warm_up(networks: Networks, bounds: Bounds) -> None:
    """Have Pillow import all that it imports only as a picture wants it."""
    picture = Image.new("RGBA", (64, 64))
    turned = Image.Exif()
    turned[_ORIENTATION] = _TURNED
    for form in FORMATS:
        file = BytesIO()
        picture.convert("RGB" if form == "JPEG" else "RGBA").save(file, form, exif=turned)
        networks.read(file.getvalue(), bounds)
    with contextlib.suppress(Unreadable):
        decode(b"", bounds.pixels)


def _confine(bounds: Bounds) -> None:
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (bounds.memory, bounds.memory))
    for what in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(what, (0, 0))
    # Standard input has number 0, and stays open; waiting for the server with poll(2) takes a limit of 1.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, 1))


def _limit_time(seconds: int) -> None:
    """Be ended by SIGXCPU after so much more processor time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "alloc" in str(error).lower()  # onnxruntime has no class for it


def _system_is_short() -> bool:
    """Whether there is no memory either where this process's own limit does not count: what it shares."""
    try:
        mmap.mmap(-1, _PROBE).close()
    except (OSError, MemoryError, ValueError):
        return True
    return False


if __name__ == "__main__":
    main()
