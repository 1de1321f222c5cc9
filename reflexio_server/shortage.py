"""Telling a shortage, of open files, memory or room on the disk, from damage and from faults: it passes by itself.

Native code gives no more than a text of it, or loses even that, so it is looked whether files are short just now.
"""

import errno
import os
from collections.abc import Callable, Iterator

FILES, MEMORY, DISK = "open files", "demands for memory", "bytes for the disk"
FAILING = "files that fail"

_ERRNOS = {errno.EMFILE: FILES, errno.ENFILE: FILES, errno.ENOMEM: MEMORY, errno.ENOSPC: DISK, errno.EDQUOT: DISK}
_TEXTS = {
    "too many open files": FILES,
    "os error 24": FILES,
    "unable to open database file": FILES,  # of one that was opened before: connections are opened as they are needed
    "cannot allocate memory": MEMORY,
    "can't start new thread": MEMORY,
    "no space left": DISK,
    "disk is full": DISK,
    "disk quota exceeded": DISK,
}
_FAILING_ERRNOS = {errno.EIO, errno.EFBIG, errno.EROFS}
_FILES_TRIED = 8  # at once: one alone may be free by chance


_judges: list[Callable[[BaseException], str | None]] = []


def judge_by(judge: Callable[[BaseException], str | None]) -> None:
    """Let a library's own codes tell, too: `judge` gives FILES, MEMORY, DISK or FAILING, or None for other errors."""
    _judges.append(judge)


def shortage(error: BaseException) -> str | None:
    """What was short when this was raised, None if nothing was. Files are looked at, too, as they are now."""
    for one in _with_causes(error):
        if isinstance(one, MemoryError):
            return MEMORY
        if isinstance(one, OSError) and one.errno in _ERRNOS:
            return _ERRNOS[one.errno]
        if (what := _judged(one)) not in (None, FAILING):
            return what
        text = str(one).lower()
        for known, what in _TEXTS.items():
            if known in text:
                return what
    return FILES if files_are_short() else None


def files_fail(error: BaseException) -> bool:
    """Whether this was raised as the system would not read or write a file: a failing disk, a limit of sizes."""
    return any(
        _judged(one) == FAILING or (isinstance(one, OSError) and one.errno in _FAILING_ERRNOS)
        for one in _with_causes(error)
    )


def tells_shortage(text: str) -> bool:
    """Whether a text of another process says that something was short."""
    return any(known in text.lower() for known in _TEXTS)


def files_are_short() -> bool:
    """Whether this process can open no more files now."""
    opened: list[int] = []
    try:
        for _ in range(_FILES_TRIED):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        return True
    finally:
        for one in opened:
            os.close(one)
    return False


def _judged(error: BaseException) -> str | None:
    return next((what for judge in _judges if (what := judge(error))), None)


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the driver's below SQLAlchemy's included."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        orig = getattr(one, "orig", None)
        waiting += [one.__cause__, one.__context__, orig if isinstance(orig, BaseException) else None]
