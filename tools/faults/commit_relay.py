"""A relay before PostgreSQL that cuts connections where it hurts: at the COMMIT of what has stored rows."""

import contextlib
import random
import socket
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, urlsplit

_SOCKET = ".s.PGSQL.5432"
_COMMIT = b"COMMIT\0"  # as it is sent, whether as a query or as a statement to be parsed
_STORED = (b"INSERT 0 ", b"COPY ")  # what the server says of a statement that has stored rows
WAYS = ("unsent", "sent", "unanswered")
"""The COMMIT is held back; is sent, and nobody waits; or was done, and the answer is held back."""


class CommitRelay:
    """Listens in a folder below the server's own.

    `chosen`: decides which commits are cut, while `share` of them is above 0, and in which way; `cuts` counts them.
    """

    def __init__(self, server: Path, chosen: random.Random) -> None:
        self.share = 0.0
        self.cuts: Counter[str] = Counter()
        self._server = server / _SOCKET
        self._folder = server / "relay"
        self._folder.mkdir()
        self._chosen = chosen
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._folder / _SOCKET))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def leading_to(self, url: str) -> str:
        """The URL of a database through the relay."""
        return urlsplit(url)._replace(query=f"host={quote(str(self._folder))}").geturl()

    def way(self) -> str:
        """How to cut this commit; "" to let it pass."""
        with self._lock:
            if self._chosen.random() >= self.share:
                return ""
            way = self._chosen.choice(WAYS)
            self.cuts[way] += 1
            return way

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                _Link(self, near, self._server)


class _Link:
    """One connection and its other half."""

    def __init__(self, relay: CommitRelay, near: socket.socket, server: Path) -> None:
        self._relay, self._near = relay, near
        self._far = socket.socket(socket.AF_UNIX)
        self._has_stored = self._holds_back = False
        try:
            self._far.connect(str(server))
        except OSError:  # it is away
            near.close()
            return
        for carry in (self._ask, self._answer):
            threading.Thread(target=carry, daemon=True).start()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._near.recv(65536):
                way = self._relay.way() if _COMMIT in data and self._has_stored else ""
                if _COMMIT in data:
                    self._has_stored = False
                if way == "unsent":
                    break
                self._holds_back = way == "unanswered"
                self._far.sendall(data)
                if way == "sent":
                    break
        if not self._holds_back:
            self._end()

    def _answer(self) -> None:
        with contextlib.suppress(OSError):
            while (data := self._far.recv(65536)) and not self._holds_back:
                self._has_stored = self._has_stored or any(said in data for said in _STORED)
                self._near.sendall(data)
        self._end()

    def _end(self) -> None:
        for one in (self._near, self._far):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
