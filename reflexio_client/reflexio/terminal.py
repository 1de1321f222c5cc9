"""What the command writes: lines that no terminal refuses and no id can forge."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


def shown(text: str) -> str:
    """The text on one line: control characters, line separators and what turns the direction of writing are escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class OutputError(Exception):
    """Standard output cannot be written, and why; without a text when its reader has gone, as of `… | head`."""


def say(text: str) -> None:
    """A line on standard output; what its encoding lacks is escaped. Raises OutputError."""
    with _output():
        _write(sys.stdout, f"{text}\n")


def finish() -> None:
    with _output():
        if sys.stdout is not None:
            sys.stdout.flush()


def complain(text: str) -> None:
    """A line on standard error, where it is said that something went wrong."""
    with suppress(OSError, ValueError):  # closed, or its reader is gone
        _write(sys.stderr, f"reflexio: {shown(text)}\n")
        sys.stderr.flush()


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        with suppress(OSError, ValueError, AttributeError):  # not even the end of the interpreter shall try again
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        raise OutputError("" if isinstance(error, BrokenPipeError) else str(error)) from None


def _write(stream: TextIO | None, text: str) -> None:
    if stream is None:  # it was closed before the interpreter began
        raise OSError("it is closed")
    encoding = getattr(stream, "encoding", None) or "ascii"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
