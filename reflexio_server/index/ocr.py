"""Reads what stands in pictures, the text of a screenshot, in a process of its own.

A decoder that is led astray costs that process and the one picture, and nothing else. The process is started for the
first picture, and ends a while after the last.
"""

import hashlib
import importlib.util
import json
import logging
import os
import signal
import subprocess
import threading
from collections import OrderedDict
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from reflexio.supervised import say
from reflexio_server.index import child
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.ocr_bounds import Bounds
from reflexio_server.index.ocr_files import READER_ID, find_fault

logger = logging.getLogger(__name__)

KILLS = 3
"""A picture whose process is killed is to be read later, as the system may be short of memory; so often at most."""

_BEGIN_SECONDS = 120.0  # half a second on a machine that has nothing else to do
_END_SECONDS = 5.0
_LONGEST_PROBLEM = 500
_REMEMBERED = 1_000  # pictures whose process was killed
_BYTES_A_CHARACTER = 12  # at most, in JSON: two escapes
# What Python and the loader of libraries need where it is set; a process that is given strangers' data is told no more.
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "TMPDIR")


@dataclass(frozen=True, slots=True)
class ReadText:
    """What was found out about a picture, once and for all.

    Attributes:
        text: what stands in it, a line of the picture in a line, from top to bottom; empty if there is nothing. Of very
            much text the smallest lines, or the last characters, are left out: see `Bounds`.
        problem: why it cannot be read, in a clause such as "it has more than 34,000,000 pixels"; empty if it was read.
            Nothing of the picture is in it.
    """

    text: str
    problem: str = ""


class ReadingFailed(Exception):
    """Nothing was found out about the picture, as something passing is short or away: ask again later.

    The text says what: no process can be started, memory is short, the process was killed, the reader is closed.
    """


class _Ended(Exception):
    """The process has ended, or was ended as it took too long."""


class Reader:
    """Reads one picture at a time; may be called from any thread.

    Attributes:
        reader_id: names the networks and how they are used, such as "PP-OCRv6-tiny/1": to be stored beside a text, as
            texts of another one may differ.
    """

    reader_id = READER_ID

    def __init__(self, model_dir: Path, bounds: Bounds | None = None) -> None:
        """`model_dir`: where `model install --ocr` put the networks. Nothing is started yet.

        Raises:
            ModelMissing: they are not there, or Pillow is not.
        """
        if importlib.util.find_spec("PIL") is None:
            raise ModelMissing("Pictures cannot be read: Pillow is missing. Install: reflexio-grpc[server,ocr]")
        if fault := find_fault(model_dir):
            raise ModelMissing(
                f"Pictures cannot be read: {fault}. Run: reflexio-server model install --ocr --model-dir {model_dir}"
            )
        self._model_dir = model_dir
        self._bounds = bounds or Bounds()
        self._reading = threading.Lock()
        self._running: tuple[Connection, subprocess.Popen[str]] | None = None
        self._closed = False
        self._killed: OrderedDict[bytes, int] = OrderedDict()

    @property
    def pid(self) -> int | None:
        """Of its process; None while there is none."""
        running = self._running
        return running[1].pid if running and running[1].poll() is None else None

    def read(self, data: bytes) -> ReadText:
        """What stands in a picture, the bytes of a PNG, JPEG, WebP or GIF; others are no picture.

        Waits for calls of other threads, then for at most `Bounds.seconds`, and the start of the process.

        Raises:
            ReadingFailed: nothing was found out; all that is wrong with the picture is in what is returned.
        """
        with self._reading:
            try:
                return self._read(data)
            except OSError as error:
                self._end()
                raise ReadingFailed(f"the process cannot be used: {error.strerror or error}") from error

    def close(self) -> None:
        """End the process, also in the midst of a picture, whose call then raises ReadingFailed; as later ones do."""
        self._closed = True
        if running := self._running:
            running[1].kill()
        with self._reading:
            self._end()

    def _read(self, data: bytes) -> ReadText:
        for _ in range(2):  # it may end by itself just as it is asked, as nothing came for long
            connection = self._begin()
            try:
                kind, said = self._answer(connection, data)
            except _Ended as ended:
                code, last = self._end(_END_SECONDS)
                if self._closed:
                    raise ReadingFailed("the reader is closed") from None
                if code == 0:
                    continue
                return self._judged(data, code, str(ended) or last)
            if kind == "failed":
                raise ReadingFailed(said)
            return ReadText(said) if kind == "text" else ReadText("", said)
        raise ReadingFailed("the process ends before it is asked")

    def _begin(self) -> Connection:
        """The server's end of what it shares with the process, which is started if there is none."""
        if self._running and self._running[1].poll() is None:
            return self._running[0]
        self._end()
        started: Future[tuple[Connection, subprocess.Popen[str]]] = Future()
        try:
            threading.Thread(target=self._host, args=(started,), name="picture process", daemon=True).start()
        except RuntimeError as error:  # there are too many threads
            raise ReadingFailed(str(error)) from None
        self._running = connection, _ = started.result()
        if self._closed:  # since then, so that nobody else ends it
            self._end()
            raise ReadingFailed("the reader is closed")
        try:
            kind, said = self._heard(connection, _BEGIN_SECONDS)
        except _Ended as ended:
            code, last = self._end(_END_SECONDS)
            raise ReadingFailed(f"its process could not begin: {str(ended) or last or code}") from None
        if kind != "ready":
            self._end()
            raise ReadingFailed(said)
        return connection

    def _host(self, started: "Future[tuple[Connection, subprocess.Popen[str]]]") -> None:
        """Start the process, and stay until it ends: on Linux it dies with the thread that started it."""
        given = json.dumps(asdict(self._bounds))
        try:
            connection, process = child.start(
                lambda number: child.command(
                    "reflexio_server.index.ocr_child", str(self._model_dir), str(number), given
                ),
                {name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                sending_seconds=self._bounds.seconds,
                receiving_seconds=_END_SECONDS,
            )
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result((connection, process))
        process.wait()

    def _answer(self, connection: Connection, data: bytes) -> tuple[str, str]:
        with suppress(OSError):  # if it has ended, it is heard
            connection.send_bytes(data)
        return self._heard(connection, self._bounds.seconds)

    def _heard(self, connection: Connection, seconds: float) -> tuple[str, str]:
        """What the process says, which may be anything: strangers' data may have led it astray.

        Raises _Ended: it has ended, or is ended as it says nothing, or nothing that makes sense.
        """
        problem = ""
        try:
            if connection.poll(seconds):
                match json.loads(connection.recv_bytes(1024 + _BYTES_A_CHARACTER * self._bounds.characters)):
                    case ["text", str(said)]:
                        return "text", _clean(said[: self._bounds.characters])
                    case ["ready" | "problem" | "failed" as kind, str(said)]:
                        return kind, _clean(said[:_LONGEST_PROBLEM])
                problem = "what it answered is no answer"
            else:
                problem = f"it did not answer for {seconds:g} s"
        except (EOFError, ConnectionError):
            pass
        except (OSError, ValueError, RecursionError):
            problem = "what it answered is no answer"
        if problem and self._running:
            self._running[1].kill()
        raise _Ended(problem)

    def _end(self, seconds: float = 0.0) -> tuple[int, str]:
        """Have no process any more: what it returned, below 0 for a signal, and the last line that it said.

        It has so long to end by itself.
        """
        if self._running is None:
            return 0, ""
        (connection, process), self._running = self._running, None
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        process.wait()
        connection.close()
        assert process.stderr
        with process.stderr:
            said = process.stderr.read()
        if process.returncode and not self._closed:
            say(logger.warning, "The process that reads pictures ended with %d: %s", process.returncode, said.strip())
        return process.returncode, said.strip().rpartition("\n")[2]

    def _judged(self, data: bytes, code: int, said: str) -> ReadText:
        """What it says of a picture that it ended the process that read it."""
        if -code == signal.SIGXCPU:
            return ReadText("", f"it takes more than {self._bounds.cpu_seconds} s of processor time")
        if -code != signal.SIGKILL:
            return ReadText("", f"it ended the process that read it ({_named(code)})")
        which = hashlib.sha256(data).digest()
        times = self._killed.pop(which, 0) + 1
        if times >= KILLS:
            return ReadText("", f"the process that read it was killed {times} times")
        self._killed[which] = times
        if len(self._killed) > _REMEMBERED:
            self._killed.popitem(last=False)
        raise ReadingFailed(f"its process was killed: {said}" if said else "its process was killed")


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else str(code)


def _clean(said: str) -> str:
    """Without what no text may have: halves of surrogate pairs, and signs that steer."""
    return "".join(one if one == "\n" or one.isprintable() else " " for one in said)
