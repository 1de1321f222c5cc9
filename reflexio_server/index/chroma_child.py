"""The process that has a folder of Chroma's open, and answers its server: started and spoken to by chroma_process.py.

It imports no more of the server than it needs. It ends with its server, see child.py; who else opens the folder waits
for that: see `main`.
"""

import fcntl
import os
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from reflexio_server.index import child, hnsw_files
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.nearest import Expected, problem
from reflexio_server.process import before_serving, before_threads
from reflexio_server.shortage import shortage

Request = tuple[int, str, tuple[Any, ...]]
"""Its number, a method of `Opened` or of the index, and what that is given."""
Failed = tuple[str | None, str, str]
"""What was short, the error in a line, and its traceback."""
Answer = tuple[int, Any, Failed | None]

THREADS = 16  # requests at once; Chroma gives up the interpreter's lock while it searches


class Opened:
    """The folder, which is open once it was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: ChromaIndex | None = None

    def open(self, suspect: bool) -> str | None:
        """Open it; what is wrong with its files, where `suspect` says that they are to be looked at first."""
        if suspect and (wrong := hnsw_files.problem(self._folder)):
            return wrong
        self._index = ChromaIndex(self._folder)
        return None

    def check(self, expected: list[Expected]) -> str | None:
        """What is wrong with what it holds."""
        assert self._index
        return next((wrong for one in expected if (wrong := problem(self._index, one))), None)

    def close(self) -> None:
        if self._index is not None:
            self._index.close()

    def do(self, method: str, given: tuple[Any, ...]) -> Any:
        return getattr(self if hasattr(self, method) else self._index, method)(*given)


def answer(opened: Opened, connection: Connection, sending: threading.Lock, request: Request) -> None:
    number, method, given = request
    result: Answer
    try:
        result = number, opened.do(method, given), None
    except BaseException as error:  # a panic of Chroma is no Exception
        line = f"{type(error).__name__}: {error}"
        result = number, None, (shortage(error), line, traceback.format_exc())
    with sending:
        connection.send(result)


def main() -> None:
    """Serve the other end of the connection until it is closed, or asks to close the folder."""
    child.begin()
    folder, connection = Path(sys.argv[1]), Connection(int(sys.argv[2]))
    before_threads()
    before_serving()
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Its killed server's successor may be quicker than this one's end: the next process waits here.
    fcntl.flock(os.open(folder.parent, os.O_RDONLY), fcntl.LOCK_EX)
    opened, sending = Opened(folder), threading.Lock()
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            try:
                request: Request = connection.recv()
            except (EOFError, OSError):
                os._exit(1)
            if request[1] == "close":
                pool.shutdown()
                answer(opened, connection, sending, request)
                os._exit(0)
            pool.submit(answer, opened, connection, sending, request)


if __name__ == "__main__":
    main()
