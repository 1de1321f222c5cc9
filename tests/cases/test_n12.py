"""N12: metrics of what is stored and of what it takes on disk, without counting at each scrape."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server.core import stored
from reflexio_server.storage import accounts
from tests.support import LocalServer
from tests.wire import metric, publish, scrape, wait_until
from tests.words import Words, use

pytestmark = pytest.mark.store

COUNTS = ("reflexio_accounts", "reflexio_users", "reflexio_interactions", "reflexio_images")


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    use(monkeypatch, Words())
    monkeypatch.setattr(stored, "LOOK_SECONDS", 0.1)
    return start(metrics_port=0)


def counted(server: LocalServer) -> list[float | None]:
    return [metric(server, name) for name in COUNTS]


def image(number: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", number) * 100


def test_what_is_stored_is_counted(server: LocalServer) -> None:
    wait_until(lambda: counted(server) == [0, 0, 0, 0], "the first look")
    one, two = server.new_caller(), server.new_caller()
    one.publish("ada", "a", "b", "c")
    publish(one, "bob", *(noun.InteractionData(content="seen", image=image(number % 2)) for number in range(4)))
    publish(two, "ada", noun.InteractionData(image=image(1)))
    wait_until(lambda: counted(server) == [2, 3, 8, 3], f"the counts, which are {counted(server)}")
    one.delete_user("bob")
    wait_until(lambda: counted(server) == [2, 2, 4, 1], f"the counts, which are {counted(server)}")


@pytest.mark.sqlite  # its files
def test_what_it_takes_on_disk(server: LocalServer) -> None:
    caller = server.new_caller()
    caller.publish("ada", *(f"a violin {number} {'word ' * 50}" for number in range(200)))
    data = server.data_dir
    wait_until(lambda: (metric(server, "reflexio_index_bytes") or 0) > 100_000, "the index to be on disk")

    def agrees(name: str, path: Path) -> bool:
        return metric(server, name) == path.stat().st_size

    wait_until(lambda: agrees("reflexio_database_bytes", data / "reflexio.db"), "the size of the file")
    wait_until(lambda: agrees("reflexio_database_log_bytes", data / "reflexio.db-wal"), "the size of the log")
    free = metric(server, "reflexio_disk_free_bytes")
    assert free
    assert abs(free - shutil.disk_usage(data).free) < 2 * 1024**3


def test_a_scrape_counts_nothing(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_until(lambda: counted(server) == [0, 0, 0, 0], "the first look")
    calls: list[int] = []
    totals = accounts.totals

    def noting(*given: object) -> accounts.Totals:
        calls.append(1)
        return totals(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(stored, "LOOK_SECONDS", 1000.0)
    monkeypatch.setattr(stored, "totals", noting)
    for _ in range(20):
        scrape(server)
    assert len(calls) <= 1


@pytest.mark.sqlite  # its plans
def test_counting_reads_no_row_in_full(server: LocalServer) -> None:
    """Pictures lie in their rows: counting them over an index leaves those alone."""
    with server.app.database.read() as conn:
        for table in ("users", "images"):
            (plan,) = conn.exec_driver_sql(f"EXPLAIN QUERY PLAN SELECT count(*) FROM {table}").all()
            assert "COVERING INDEX" in plan[-1]
