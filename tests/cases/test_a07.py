"""A7: a search ends with its call."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

import grpc
import pytest
from sqlalchemy import text

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage import fts5, tsvector
from reflexio_server.storage.prepared import Prepared
from tests.support import LocalServer
from tests.wire import wait_until

DEADLINE = 0.2  # seconds
WORDS = [f"w{number}" for number in range(64)]


def test_a_search_ends_soon_after_its_deadline(
    start: Callable[..., LocalServer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "reflexio_server.calls")
    caller = start(indexing=False).new_caller()
    items = [noun.InteractionData(content=" ".join(WORDS))] * 100
    requests = [
        pb.PublishInteractionsRequest(user_id="u", request_id=f"r{number}", interactions=items) for number in range(250)
    ]
    assert caller.stream(requests).interactions.stored == 25_000
    search = pb.SearchInteractionsRequest(query=" ".join(WORDS))
    began = time.monotonic()
    with suppress(grpc.RpcError):  # it may be answered in time
        caller.interactions.SearchInteractions(search, metadata=caller.metadata, timeout=DEADLINE)

    wait_until(lambda: _ended(caplog), "the end of the call on the server", 120)
    assert time.monotonic() - began < 5 * DEADLINE


def _ended(caplog: pytest.LogCaptureFixture) -> bool:
    records = [record.__dict__ for record in caplog.records if record.message == "call ended"]
    return any(record["method"].endswith("/SearchInteractions") for record in records)


@pytest.mark.parametrize("end", ["deadline", "cancelled", "drained"])
def test_whatever_a_call_reads_stops_with_it(
    start: Callable[..., LocalServer],
    store: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    end: str,
) -> None:
    caplog.set_level(logging.DEBUG, "reflexio_server.calls")
    server = start(indexing=False, grace_seconds=0.5)
    caller = server.new_caller()
    caller.publish("u", "a text")
    endless = """WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n)
        SELECT 0, count(*), CAST(:matches AS text), CAST(:most AS int) FROM n"""
    monkeypatch.setattr(tsvector if store == "postgres" else fts5, "_LISTED", Prepared(text(endless)))
    search = pb.SearchInteractionsRequest(query="text")
    timeout = 0.5 if end == "deadline" else 30
    call = caller.interactions.SearchInteractions.future(search, metadata=caller.metadata, timeout=timeout)
    time.sleep(0.25)
    if end == "cancelled":
        call.cancel()
    if end == "drained":
        began = time.monotonic()
        server.app.stop()
        assert time.monotonic() - began < 10, "it waits for what is stopped, and no longer"
    with pytest.raises((grpc.RpcError, grpc.FutureCancelledError)):
        call.result(30)
    wait_until(lambda: _ended(caplog), "the end of the call on the server", 10)
