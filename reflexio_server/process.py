"""What a process sets once: before any library is imported, before there are threads, before and once it serves."""

import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

_TO_LIBRARIES = {
    # onnxruntime 1.32 makes files below the cache folder and reports to its maker, unless this stands here before.
    "ORT_DISABLE_TELEMETRY": "1",
    "ANONYMIZED_TELEMETRY": "False",  # chromadb
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, which tokenizers brings
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",  # what others agreed on: https://consoledonottrack.com
}
NO_HOME = Path("/nonexistent")
"""What Debian gives as the home of who has none."""

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h
LARGE_BYTES = 128 * 1024
"""Blocks from this size on go back to the system when they are freed: glibc's default, which setting it holds."""
ARENAS = 2
OPEN_FILES = (65536, 10240)
"""How many files a server wants to have open; macOS allows no more than the second, whatever it says its limit is."""


def before_imports() -> None:
    """Have no library report anything, nor fail where there is no home; children inherit it.

    Done when `reflexio_server` is imported, and so before any of its modules imports a library.
    """
    os.environ.update(_TO_LIBRARIES)
    # Read when numpy is imported. The server's own threads are the parallelism: with two threads of numpy's, comparing
    # 10,000 vectors took 1.5 ms instead of 0.5 on a busy machine, and at times 80.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if os.path.expanduser("~") == "~":  # neither HOME nor an entry in passwd; chromadb asks for one at its import
        os.environ["HOME"] = str(NO_HOME)


def before_threads() -> None:
    """Give large blocks back when they are freed, and keep free small ones in few places; glibc only.

    By default the first large block that is freed, 19 MiB of a login's Argon2, makes the limit for this so high that
    all that come after it, pictures and messages too, stay in one of eight arenas for each core: mallopt(3), Notes.
    Measured after 90 seconds of a mixed load: 268 MiB instead of 324, level instead of in steps of some 19.
    """
    _mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    _mallopt(_M_ARENA_MAX, ARENAS)


def before_serving() -> None:
    """Allow many open files, and let no loop over rows in one thread hold up the others for long."""
    sys.setswitchinterval(0.0005)
    _raise_open_files_limit()


def once_serving() -> None:
    """Have the garbage collector pass over all that is there by now and stays: modules, their tables and statements.

    It looks at all objects at once, and all threads stand still meanwhile: of a server's 98,000 for some 50 ms.
    """
    gc.freeze()


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)


def _raise_open_files_limit() -> None:
    """Chroma keeps 4 files open for each collection: see index.chroma.most_open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for most in OPEN_FILES:
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            continue
        return
