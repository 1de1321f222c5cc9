"""Servers to measure: on filled stores of several sizes, and on empty ones."""

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reflexio_server.index.embedder import Embedder
from reflexio_server.storage import collections, embedders, waiting
from reflexio_server.storage.database import Database
from tools.benchmarks.calls import Caller, log_in
from tools.benchmarks.filling import Language, Progress, fill, sizes_of
from tools.server_process import ServerProcess, create_account

EMAIL = "bench@example.com"
_INDEX_SECONDS = 7200.0  # Chroma takes an hour or two for a million vectors


class Store:
    """A server on a data directory of one account.

    A server that is started with `--no-indexing` never has a live model; then only its calls can be measured. With a
    `url` everything but the index is in the database there.
    """

    def __init__(self, data_dir: Path, email: str, arguments: Sequence[str] = (), url: str | None = None) -> None:
        self.data_dir = data_dir
        self.url = url
        self.arguments = tuple(arguments)
        self.server = ServerProcess(data_dir, None, *arguments, *(["--database-url", url] if url else []))
        self.address = self.server.address
        self.key = log_in(self.address, email)
        self.caller = Caller(self.address, self.key)
        self.database = Database(data_dir, owner=False, url=url)

    @property
    def pid(self) -> int:
        return self.server.process.pid

    def end_server(self) -> None:
        if self.server.process.poll() is None:
            self.server.terminate()

    def close(self) -> None:
        self.database.close()
        self.end_server()


def wait_for(database: Database, done: Callable[[Any], bool], seconds: float, pause: float = 0.01) -> None:
    """Wait until the database says so, asking after each pause (seconds)."""
    deadline = time.monotonic() + seconds
    while True:
        with database.read() as conn:
            if done(conn):
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the index was not ready within {seconds:g} s")
        time.sleep(pause)


def wait_for_index(database: Database, what: str) -> None:
    """Wait until every text has its vector and the index holds them all, and say how far that is."""
    wait_for(database, lambda conn: waiting.first(conn) is None, _INDEX_SECONDS, pause=0.5)
    with database.read() as conn:
        state = embedders.state(conn)
        assert state
        progress = Progress(f"the index of {what}", conn.exec_driver_sql("SELECT max(id) FROM vectors").scalar() or 1)

    def is_there(conn: Any) -> bool:
        progress.reached(max((live.applied for live in collections.in_use(conn)), default=0))
        return not collections.lagging_accounts(conn, state.live)

    wait_for(database, is_there, _INDEX_SECONDS, pause=0.5)


@contextmanager
def copied(store: Store) -> Iterator[Path]:
    """A copy of the store's data directory, without a server; the store's own is ended."""
    store.end_server()
    with tempfile.TemporaryDirectory(prefix="copy of ", dir=store.data_dir.parent) as name:
        yield Path(shutil.copytree(store.data_dir, Path(name) / "data"))


def filled(folder: Path, total: int, embedder: Embedder, arguments: Sequence[str]) -> Store:
    """The store of so many interactions in the folder, which is made if it is not there."""
    data_dir = folder / str(total)
    if not data_dir.exists():
        part = folder / f"{total}.part"
        create_account(part, EMAIL)
        fill(part, EMAIL, total, embedder.model_id, embedder.dimensions, Language(total), sizes_of(total))
        part.rename(data_dir)
    return Store(data_dir, EMAIL, arguments)


@contextmanager
def empty(*arguments: str) -> Iterator[Store]:
    """A server on a new data directory, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="reflexio-bench-") as name:
        data_dir = Path(name) / "data"
        store = Store(data_dir, create_account(data_dir), arguments)
        try:
            yield store
        finally:
            store.close()


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
