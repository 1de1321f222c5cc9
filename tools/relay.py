"""A TCP relay on loopback: to come to a server from another address, and to fall silent without a word."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Listens on a free port and passes everything on, until it is silenced or closed.

    Args:
        target: "host:port" of the server.
        source: the address that the server sees. On Linux all of 127.0.0.0/8 is there to choose from.
    """

    def __init__(self, target: str, source: str = "127.0.0.1") -> None:
        host, _, port = target.rpartition(":")
        self._target, self._source = (host, int(port)), source
        self._speaks = threading.Event()
        self._speaks.set()
        self._sockets: list[socket.socket] = []
        self.connections = 0
        """How many have come."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def silence(self) -> None:
        """Pass nothing on any more, and close nothing either, as when a cable is cut."""
        self._speaks.clear()

    def close(self) -> None:
        """End every connection."""
        self._speaks.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(self._target, source_address=(self._source, 0))
                self._sockets += (near, far)
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, giver: socket.socket, taker: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := giver.recv(65536):
                self._speaks.wait()
                taker.sendall(data)
            taker.shutdown(socket.SHUT_WR)
