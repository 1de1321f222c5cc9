"""What the tests of a failing index share: a quick server in this process, and waiting for its index."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.core import following
from reflexio_server.index import chroma_process
from tests.support import Caller, LocalServer
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


def fail_times(function: Callable[..., Any], error: BaseException, times: int, failed: list[int]) -> Callable[..., Any]:
    """The function, which raises the error at its first calls by the quick server."""

    def failing(*given: Any, **named: Any) -> Any:
        if len(failed) < times and threading.current_thread() not in _others:
            failed.append(1)
            raise error
        return function(*given, **named)

    return failing


def fail_to_open(monkeypatch: pytest.MonkeyPatch, error: BaseException, times: int, failed: list[int]) -> None:
    """Let Chroma raise the error when it opens a folder, in so many processes that are started from now on."""
    command = chroma_process.command
    code = f"""if True:
        import chromadb_rust_bindings
        from reflexio_server.index import chroma_child

        class PanicException(BaseException): pass

        def fail(**_):
            raise {error!r}

        chromadb_rust_bindings.Bindings = fail
        chroma_child.main()
    """

    def failing(folder: Path, connection: int) -> list[str]:
        whole = command(folder, connection)
        if len(failed) >= times:
            return whole
        failed.append(1)
        return [whole[0], "-P", "-c", code, *whole[-2:]]

    monkeypatch.setattr(chroma_process, "command", failing)


def found(caller: Caller, query: str, top_k: int = 10) -> list[str]:
    return [hit.interaction.content for hit in caller.search(query=query, top_k=top_k).hits]
