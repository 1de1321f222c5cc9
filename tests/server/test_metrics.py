"""What Prometheus reads: the counts are right, the document names them all, and a scrape asks no database."""

import re
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio_server.core import index_lag
from reflexio_server.storage.database import Database
from reflexio_server.transport import CannotListen
from tests.state import change
from tests.support import LocalServer
from tests.wire import OpenStream, blocked_writer, code_of, metric, say, scrape, wait_until

pytestmark = pytest.mark.store

DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"
SERVICE = "/reflexio.v1.InteractionService/"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Any:
    running = LocalServer(tmp_path_factory.mktemp("metrics"), model_dir, metrics_port=0)
    yield running
    running.stop()


def calls(server: LocalServer, method: str, code: str = "OK") -> float:
    return metric(server, "reflexio_rpc_duration_seconds_count", code, method) or 0


def test_without_a_port_there_are_none(start: Any) -> None:
    assert start().app.metrics_address is None


def test_the_document_has_exactly_what_is_exported(server: LocalServer) -> None:
    server.new_caller()
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") is not None, "the first look at the lag")
    documented = dict(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", DOCUMENT.read_text(), re.MULTILINE))
    with urllib.request.urlopen(f"http://{server.app.metrics_address}/metrics", timeout=30) as answer:
        exported = dict(re.findall(r"^# TYPE (\w+) (\w+)$", answer.read().decode(), re.MULTILINE))
    assert documented == exported


def test_calls_are_counted_by_method_and_code(server: LocalServer) -> None:
    caller = server.new_caller()
    before = {
        (method, code): calls(server, method, code)
        for method, code in ((f"{SERVICE}PublishInteractions", "OK"), (f"{SERVICE}GetInteractions", "INVALID_ARGUMENT"))
    }
    for _ in range(3):
        caller.publish("u", "said")
    assert code_of(lambda: caller.get(user_id="")) is grpc.StatusCode.INVALID_ARGUMENT
    for (method, code), count in before.items():
        more = 3 if code == "OK" else 1
        wait_until(lambda m=method, c=code, n=count + more: calls(server, m, c) == n, f"{more} of {method}")  # type: ignore[misc]
    refused = calls(server, "/reflexio.v1.AuthService/Login", "UNAUTHENTICATED")
    request = auth_pb.LoginRequest(email="nobody@example.com", password="never right")
    assert code_of(lambda: caller.auth.Login(request, timeout=30)) is grpc.StatusCode.UNAUTHENTICATED
    wait_until(
        lambda: calls(server, "/reflexio.v1.AuthService/Login", "UNAUTHENTICATED") == refused + 1, "the refused login"
    )
    found = scrape(server)
    buckets = found["reflexio_rpc_duration_seconds_bucket"]
    assert all(
        buckets[code, "+Inf", method] == count
        for (code, method), count in found["reflexio_rpc_duration_seconds_count"].items()
    )


def test_only_methods_that_are_there_have_a_line(server: LocalServer) -> None:
    caller = server.new_caller()
    for number in range(5):
        odd: Any = caller.channel.unary_unary(f"/made.up.Service/Method{number}")
        assert code_of(lambda odd=odd: odd(b"", timeout=30)) is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[misc]
    assert not [labels for labels in scrape(server)["reflexio_rpc_duration_seconds_count"] if "made.up" in str(labels)]


def test_open_streams_and_waiting_writes_are_seen(server: LocalServer) -> None:
    caller = server.new_caller()
    assert metric(server, "reflexio_rpcs_in_flight", "stream") == 0
    stream = OpenStream(caller)
    stream.send("first")
    wait_until(lambda: metric(server, "reflexio_rpcs_in_flight", "stream") == 1, "the stream")
    waiting: list[Any] = []

    def one_more() -> bool:
        """The writer takes what came first all at once, and then waits for the lock; the others wait for the writer."""
        request = say(f"waits {len(waiting)}")
        waiting.append(caller.interactions.PublishInteractions.future(request, metadata=caller.metadata, timeout=30))
        return (metric(server, "reflexio_write_queue_depth") or 0) >= 3

    with blocked_writer(server):
        wait_until(one_more, "three writes to wait", 8)
        wait_until(lambda: metric(server, "reflexio_rpcs_in_flight", "unary") == len(waiting), "all calls", 8)
    assert all(call.result(30).interaction_ids for call in waiting)
    assert stream.close().requests.stored == 1
    wait_until(lambda: metric(server, "reflexio_rpcs_in_flight", "stream") == 0, "the stream's end")
    wait_until(lambda: metric(server, "reflexio_rpcs_in_flight", "unary") == 0, "the calls' end")
    wait_until(lambda: metric(server, "reflexio_write_queue_depth") == 0, "the writes' end")


def test_commits_are_counted_with_their_writes(start: Any) -> None:
    server = start(metrics_port=0, indexing=False)
    caller = server.new_caller()
    wait_until(lambda: not server.app.term.renewal.thread.is_alive(), "the end of what a start writes")
    before = scrape(server)
    for _ in range(5):
        caller.publish("u", "said")
    after = scrape(server)
    for name in (
        "reflexio_commit_duration_seconds_count",
        "reflexio_commit_writes_count",
        "reflexio_commit_writes_sum",
    ):
        assert after[name][()] - before[name][()] == 5
    assert after["reflexio_commit_duration_seconds_sum"][()] > before["reflexio_commit_duration_seconds_sum"][()]


def test_the_cache_tells_of_hits_and_misses(start: Any) -> None:
    server = start(metrics_port=0)
    caller = server.new_caller()
    caller.publish("u", "a parcel that never came")
    empty = metric(server, "reflexio_vector_cache_bytes")
    for _ in range(4):
        caller.search(user_id="u", query="parcel")
    assert metric(server, "reflexio_vector_cache_misses_total") == 1
    assert metric(server, "reflexio_vector_cache_hits_total") == 3
    assert (metric(server, "reflexio_vector_cache_bytes") or 0) > (empty or 0)


def test_the_lag_is_what_waits(start: Any, every_account: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_lag, "LOOK_SECONDS", 0.05)
    server = start(metrics_port=0, indexing=False)
    caller = server.new_caller()
    caller.publish("u", "one", "two", "three")
    wait_until(lambda: metric(server, "reflexio_index_waiting_interactions") == 3, "three that wait for vectors")
    assert metric(server, "reflexio_index_waiting_vectors") == 0
    server.stop()

    server = start(server.data_dir, metrics_port=0)
    wait_until(lambda: metric(server, "reflexio_index_waiting_interactions") == 0, "none to wait for vectors")
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") == 0, "none to wait for Chroma")
    assert metric(server, "reflexio_index_open") == 1
    assert change(server.data_dir, "UPDATE collections SET applied = applied - 2") == 1
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") == 2, "two that wait for Chroma")
    change(server.data_dir, "DELETE FROM collections")
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") == 3, "all three to wait for Chroma")


def test_a_scrape_asks_no_database(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(metrics_port=0)
    wait_until(lambda: metric(server, "reflexio_index_waiting_vectors") == 0, "the first look at the lag")
    before = set(scrape(server))

    def fails(_: Database) -> Any:
        raise RuntimeError("the database was asked")

    with monkeypatch.context() as patch:  # the server needs it to stop
        for way in ("read", "write"):
            patch.setattr(Database, way, fails)
        assert set(scrape(server)) == before


def test_servers_in_one_process_count_for_themselves(server: LocalServer, start: Any) -> None:
    method = f"{SERVICE}PublishInteractions"
    other = start(metrics_port=0)
    before = calls(server, method)
    other.new_caller().publish("u", "said")
    wait_until(lambda: calls(other, method) == 1, "the call to be counted")
    assert calls(server, method) == before


def test_a_port_that_is_taken_is_said_and_nothing_is_left(server: LocalServer, start: Any, tmp_path: Path) -> None:
    assert server.app.metrics_address
    taken = int(server.app.metrics_address.rpartition(":")[2])
    with pytest.raises(CannotListen, match=f"127.0.0.1:{taken} for --metrics-port: Address already in use"):
        start(tmp_path / "data", metrics_port=taken)
    again = start(tmp_path / "data", metrics_port=0)
    address = again.app.metrics_address
    again.stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{address}/metrics", timeout=30)
