"""A folder of Chroma's that a process of its own has open, as the server speaks to it.

Chroma holds the interpreter's lock for the whole of an upsert (29 ms for 100 vectors, 58 beside 80,000), its import is
two fifths of a start's processor time, and on some damaged folders it ends the process that reads them.
"""

import itertools
import logging
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reflexio.supervised import Supervised, say
from reflexio_server import ending
from reflexio_server.errors import Ended
from reflexio_server.index import child
from reflexio_server.index.chroma_note import forget_closed, note_closed
from reflexio_server.index.nearest import Expected, Late, Matrix, Stamps, Stopped, Truth, Unavailable
from reflexio_server.shortage import tells_shortage

if TYPE_CHECKING:
    from reflexio_server.index.chroma_child import Answer, Failed

logger = logging.getLogger(__name__)

HANGS_SECONDS = 300.0
"""After so long without an answer the process is ended; opening a large folder on a slow disk takes its time, too."""

QUERY_SECONDS = 10.0
"""How long a search waits for an answer, unless it says otherwise."""

_STOP_SECONDS = 5.0  # the same while the server stops
_CLOSE_SECONDS = 30.0
_LOOK_SECONDS = 0.5  # how often it is looked whether to go on waiting
_LINES_KEPT = 100  # of what the process said; a panic has some 40


class ChromaFailed(Exception):
    """What Chroma raised, or how it ended its process, in a line; a traceback of the other process is its note."""


class ChromaProcess:
    """An open folder; see `nearest.Index`. Begun by `open`, which is to be called once, before anything else.

    What passes between the processes is pickled: both are this server, and nobody else can write to the pipe between
    them. Only what is asked and answered passes, never Chroma's own objects, so nothing of it is imported here.
    """

    def __init__(self, folder: Path, stopping: Callable[[], bool]) -> None:
        """`stopping`: whether to wait no longer than a moment for answers, as the server stops."""
        forget_closed(folder)
        self.folder = folder
        self.number = int(folder.name)
        self.dropped: set[str] = set()
        self._stopping = stopping
        self._asked: dict[int, Future[Any]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._over = self._closed = False
        self._said: deque[str] = deque(maxlen=_LINES_KEPT)
        self._connection, self._process = child.start(
            lambda connection: command(folder, connection), os.environ, HANGS_SECONDS
        )
        self._threads = [Supervised("chroma log", self._log, logger), Supervised("chroma answers", self._hear, logger)]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def open(self, *, suspect: bool = False) -> str | None:
        """Open the folder, which is made if it is not there; what is wrong with its files, when they are `suspect`.

        Raises what any method does: ChromaFailed, or Unavailable when something was short, the process was killed or
        does not answer, and Stopped.
        """
        return self._ask("open", suspect, patience=0)  # type: ignore[no-any-return]

    def check(self, expected: list[Expected]) -> str | None:
        """What is wrong with what it holds."""
        return self._ask("check", expected, patience=0)  # type: ignore[no-any-return]

    def upsert(self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: Matrix, new: bool = True) -> None:
        self.dropped.discard(name)
        self._ask("upsert", name, stamps, users, matrix, new)

    def query(
        self, name: str, vector: Matrix, count: int, user: int | None = None, timeout: float | None = None
    ) -> tuple[list[int], Matrix]:
        limit = QUERY_SECONDS if timeout is None else timeout
        return self._ask("query", name, vector, count, user, timeout=limit)  # type: ignore[no-any-return]

    def stamps(self, name: str) -> Stamps:
        return self._ask("stamps", name)  # type: ignore[no-any-return]

    def vectors(self, name: str, stamps: Sequence[int]) -> Matrix:
        return self._ask("vectors", name, stamps)  # type: ignore[no-any-return]

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        self._ask("delete", name, stamps)

    def names(self) -> list[str]:
        return self._ask("names")  # type: ignore[no-any-return]

    def drop(self, names: set[str]) -> None:
        self.dropped |= names
        self._ask("drop", names)

    def tend(self, truth: Truth) -> None:
        """Nobody else changes the folder, so there is nothing to be held against SQL."""
        self._ask("empty_unread_files")

    def close(self) -> None:
        """Have the process close the folder and end, or end it when it does not."""
        with suppress(Exception):
            self._ask("close", limit=_CLOSE_SECONDS, patience=_CLOSE_SECONDS)
            self._closed = True
            self._process.wait(_STOP_SECONDS)
        self.kill()
        for thread in self._threads:
            thread.end()
        self._connection.close()

    def kill(self) -> None:
        """End the process at once; whoever waits for it is told."""
        self._process.kill()
        self._process.wait()

    def note_closed(self, applied: Mapping[str, int]) -> None:
        if self._closed:
            note_closed(self.folder, applied)

    def _ask(
        self,
        method: str,
        *given: Any,
        timeout: float | None = None,
        limit: float = HANGS_SECONDS,
        patience: float = _STOP_SECONDS,
    ) -> Any:
        """What the process answers.

        Raises Late after `timeout` seconds, and Ended when the call does that it is asked for, see `ending`. After
        `limit` seconds, or `patience` while the server stops, the process is ended: the answer is not to come any more.
        """
        answer: Future[Any] = Future()
        with self._lock:
            if self._over:
                raise self._end_of_process()
            number = next(self._numbers)
            self._asked[number] = answer
        limit = limit if timeout is None else timeout
        until = time.monotonic() + limit
        if self._sending.acquire(timeout=limit):
            try:
                self._connection.send((number, method, given))
            except OSError:
                self.kill()  # if it did not end, it reads nothing any more
            finally:
                self._sending.release()
        while True:
            try:
                with ending.stopped_by(answer.cancel), suppress(TimeoutError):
                    return answer.result(max(0.0, min(_LOOK_SECONDS, until - time.monotonic())))
            except CancelledError:
                raise Ended from None
            now = time.monotonic()
            stopping = timeout is None and self._stopping()
            if stopping:
                until = min(until, now + patience)
            if now < until:
                continue
            if timeout is not None:
                raise Late
            self.kill()
            raise Stopped if stopping else Unavailable(f"its process did not answer {method} for {limit:g} s")

    def _hear(self) -> None:
        """Hand each answer to whoever asked, until the process ends."""
        try:
            while True:
                heard: Answer = self._connection.recv()
                number, value, failed = heard
                with self._lock:
                    asked = self._asked.pop(number)
                if not asked.set_running_or_notify_cancel():
                    continue  # nobody waits for it any more
                if failed is None:
                    asked.set_result(value)
                else:
                    asked.set_exception(_as_raised(failed))
        except (EOFError, OSError):
            pass
        finally:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self.kill()
            self._threads[0].end()  # with what it said last
            with self._lock:
                self._over = True
            for asked in self._asked.values():
                if asked.set_running_or_notify_cancel():
                    asked.set_exception(self._end_of_process())
            self._asked.clear()

    def _log(self) -> None:
        assert self._process.stderr
        with self._process.stderr:
            for line in self._process.stderr:
                self._said.append(line.strip())
                say(logger.warning, "Chroma's process says: %s", line.rstrip())

    def _end_of_process(self) -> Exception:
        """Native code that fails ends it by another signal than people and a system short of memory send.

        It does so too where something is short, and says it before: a panic while it unwinds from another.
        """
        code = self._process.returncode
        if -code == signal.SIGKILL:
            return Unavailable("its process was killed")
        if code >= 0:
            return Unavailable(f"its process ended: {self._said[-1] if self._said else code}")
        if short := next(filter(tells_shortage, self._said), None):
            return Unavailable(f"its process ended with signal {-code}: {short}")
        return ChromaFailed(f"it ended its process with signal {-code}")


def command(folder: Path, connection: int) -> list[str]:
    """What starts the process; `connection`: the number of the open file that is its end of it."""
    return child.command("reflexio_server.index.chroma_child", str(folder), str(connection))


def _as_raised(failed: "Failed") -> Exception:
    short, line, trace = failed
    if short:
        return Unavailable(f"there are too many {short}")
    error = ChromaFailed(line)
    error.add_note(trace)
    return error
