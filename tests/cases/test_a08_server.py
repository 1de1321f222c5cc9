"""A8, the server's side: when its files cannot be read or written, calls are to be tried again, never INTERNAL."""

import errno
import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from sqlalchemy.exc import OperationalError

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.listing import Lister
from reflexio_server.core.publishing import Publisher
from tests.support import LocalServer, ServerProcess, create_account, log_in
from tests.wire import MIB, expect, failure, publish, say

pytestmark = pytest.mark.sqlite  # its driver's errors

CODES = [
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_FSYNC,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_READONLY_DBMOVED,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_BUSY,
]


def test_a_database_that_cannot_grow(tmp_path: Path, model_dir: Path) -> None:
    """A limit of file sizes, which the process meets while it runs, and which is taken away again."""
    email = create_account(tmp_path)
    server = ServerProcess(tmp_path, model_dir, "--no-indexing")
    try:
        caller = log_in(server.address, email)
        caller.publish("u", "before", request_id="before")
        free = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (64 * 1024, free[1]))
        large = noun.InteractionData(image=bytes(2 * MIB))
        for _ in range(3):
            found = failure(publish, caller, "u", large, request_id="large")
            assert found.code is grpc.StatusCode.UNAVAILABLE, found
            assert found.retry_seconds
            assert len(caller.get(user_id="u").interactions) == 1, "reading goes on"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, free)
        assert not publish(caller, "u", large, request_id="large").replayed
        assert caller.publish("u", "before", request_id="before").replayed
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert server.terminate() == 0


def fails_with(error: BaseException) -> type:
    def fail(*_: Any) -> None:
        raise error

    class Failing:
        page = image = publish = publish_all = requests = fail

        def __init__(self, *_: Any) -> None: ...

    return Failing


def of_sqlite(code: int) -> OperationalError:
    cause = sqlite3.OperationalError("the disk is on fire")
    cause.sqlite_errorcode = code
    return OperationalError("INSERT", {}, cause)


@pytest.mark.parametrize(
    "error",
    [*map(of_sqlite, CODES[:-1]), *(OSError(one, "x") for one in (errno.EIO, errno.EFBIG, errno.EROFS, errno.EMFILE))],
    ids=repr,
)
def test_whatever_call_meets_it_may_be_repeated(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    for collaborator in (Lister, Publisher):
        monkeypatch.setattr(f"reflexio_server.app.{collaborator.__name__}", fails_with(error))
    caller = start(indexing=False).new_caller()
    for call in (caller.get, lambda: caller.publish("u", "x"), lambda: caller.stream([say("x")])):
        found = failure(call)
        assert found.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED), found
        assert found.retry_seconds
        assert "fire" not in str(found)


def test_it_has_a_reason_of_its_own(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflexio_server.app.Lister", fails_with(of_sqlite(sqlite3.SQLITE_IOERR_READ)))
    caller = start(indexing=False).new_caller()
    expect(failure(caller.get), grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
    request = pb.GetImageRequest(interaction_id="x")
    found = failure(lambda: list(caller.interactions.GetImage(request, metadata=caller.metadata, timeout=10)))
    expect(found, grpc.StatusCode.UNAVAILABLE, "STORAGE_UNAVAILABLE")
