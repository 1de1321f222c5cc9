"""W9: damage of the database met while running is said in words, once, and health says so."""

import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflexio_server.storage.database import DATABASE_FILE
from tests.support import Caller, LocalServer
from tests.wire import failure

pytestmark = pytest.mark.sqlite  # its file is damaged


def health(caller: Caller) -> int:
    stub: Any = health_pb2_grpc.HealthStub(caller.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status)


@pytest.mark.parametrize("met_by", ["read", "write"])
def test_damage_is_told(start: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture, met_by: str) -> None:
    server = start(indexing=False)
    caller = server.new_caller()
    # Enough that the pages are not all in a cache, and all of it in the file.
    caller.publish("u", *(f"text {number} " + "x" * 3000 for number in range(400)))
    assert health(caller) == health_pb2.HealthCheckResponse.SERVING
    with caplog.at_level(logging.ERROR):
        path = server.data_dir / DATABASE_FILE
        assert server.app.database.empty_log()
        content = bytearray(path.read_bytes())
        content[8192:] = b"\xa5" * (len(content) - 8192)
        with path.open("r+b") as file:
            file.write(content)
        for engine in (server.app.database._store.read, server.app.database._store.write):
            engine.dispose()  # what SQLite remembers of pages
        first = failure(caller.get, user_id="u") if met_by == "read" else failure(caller.publish, "u", "more")
        for found in (first, failure(caller.get, user_id="u"), failure(caller.publish, "u", "again")):
            assert found.code is grpc.StatusCode.UNAVAILABLE
            assert found.info.reason == "STORAGE_UNAVAILABLE"
            assert "damaged" in found.text
            assert "restores a backup" in found.text
            assert found.retry_seconds == 30
    assert health(caller) == health_pb2.HealthCheckResponse.NOT_SERVING
    told = [record for record in caplog.records if "is damaged" in record.getMessage()]
    assert len(told) == 1
    assert told[0].levelno == logging.ERROR
    assert "restore" in told[0].getMessage()
    assert str(path) in told[0].getMessage()
    assert not [record for record in caplog.records if record.exc_info and "rpc" in record.name]
