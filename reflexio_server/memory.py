"""How the C library keeps the process's memory. Its defaults suit programs with few threads and small blocks."""

import ctypes

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # glibc's malloc.h

LARGE_BYTES = 128 * 1024
"""Blocks from this size on go back to the system when they are freed: glibc's default, which setting it holds."""
ARENAS = 2


def settle_allocator() -> None:
    """Give large blocks back when they are freed, and keep free small ones in few places; glibc only.

    By default the first large block that is freed, 19 MiB of a login's Argon2, makes the limit for this so high that
    all that come after it, pictures and messages too, stay in one of eight arenas for each core: mallopt(3), Notes.
    Measured after 90 seconds of a mixed load: 268 MiB instead of 324, level instead of in steps of some 19.
    """
    _mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    _mallopt(_M_ARENA_MAX, ARENAS)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)
