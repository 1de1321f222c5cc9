"""What the tests of a failing index share: a quick server in this process, and waiting for its index."""

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.core import following
from reflexio_server.storage import collections, waiting
from reflexio_server.storage.database import DATABASE_FILE
from tests.support import Caller, LocalServer
from tests.wire import wait_until
from tests.words import Words, use

_others: set[threading.Thread] = set()
"""What ran before the server did: of another server in this process too, which shall not meet what this one meets."""


class PanicException(BaseException):
    """As pyo3's, which is no Exception."""


@contextlib.contextmanager
def quick_server(
    data_dir: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> Iterator[LocalServer]:
    """A server with an embedder of no time, whose index tries again soon."""
    _others.clear()
    _others.update(set(threading.enumerate()) - {threading.main_thread()})
    use(monkeypatch, Words())
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.05)
    server = LocalServer(data_dir, model_dir, **settings)
    try:
        yield server
    finally:
        server.stop()


def has_followed(server: LocalServer) -> bool:
    """Whether the index is open and holds every vector."""
    if not server.app.follower.is_open:
        return False
    with server.app.database.read() as conn:
        return not waiting.first(conn) and not collections.lagging_accounts(conn, server.live_model())


def wait_for_index(server: LocalServer) -> None:
    wait_until(lambda: has_followed(server), "the index to be complete")


def fail_times(function: Callable[..., Any], error: BaseException, times: int, failed: list[int]) -> Callable[..., Any]:
    """The function, which raises the error at its first calls by the quick server."""

    def failing(*given: Any, **named: Any) -> Any:
        if len(failed) < times and threading.current_thread() not in _others:
            failed.append(1)
            raise error
        return function(*given, **named)

    return failing


def found(caller: Caller, query: str, top_k: int = 10) -> list[str]:
    return [hit.interaction.content for hit in caller.search(query=query, top_k=top_k).hits]


def folders(data_dir: Path) -> list[str]:
    """The index's folders, those set aside included."""
    return sorted(path.name for path in (data_dir / "chroma").iterdir() if path.is_dir())


def rows(data_dir: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        return conn.execute(statement).fetchall()
