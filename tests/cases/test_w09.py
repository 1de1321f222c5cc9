"""W9, the index's side: damage of the database met while running is told as such, and costs the index nothing.

What calls answer then, and what a start says, is in test_w09_calls.py and test_a06.py.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy.exc import DatabaseError

from reflexio_server.app import INDEX_HEALTH
from reflexio_server.cli.main import main
from reflexio_server.storage import jobs, waiting
from reflexio_server.storage.sqlite import make_engine
from tests.cases.index_server import fail_times, found, quick_server
from tests.state import folders, wait_for_index
from tests.support import LocalServer
from tests.wire import metric, wait_until

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def server(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    with quick_server(tmp_path / "data", model_dir, monkeypatch, metrics_port=0) as running:
        yield running


def health(server: LocalServer, name: str) -> int:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        check: Any = health_pb2_grpc.HealthStub(channel)
        return int(check.Check(request, timeout=30).status)


def status(server: LocalServer, *more: str) -> str:
    said = CliRunner().invoke(main, ["index", "status", "--data-dir", str(server.data_dir), *more])
    assert said.exit_code == 0, said.output
    return said.output


def real_damage(tmp_path: Path) -> BaseException:
    """The error of a damaged file, as the driver and SQLAlchemy make it."""
    path = tmp_path / "damaged.db"
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 8000)
    engine = make_engine(path, begin="DEFERRED", connections=1)
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql("SELECT * FROM sqlite_master")
    except DatabaseError as error:
        return error
    finally:
        engine.dispose()
    raise AssertionError("it can be read")


@pytest.mark.sqlite  # its damage
def test_damage_of_the_database_is_named_and_the_index_kept(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    caller = server.new_caller()
    caller.publish("u", "a violin")
    wait_for_index(server)
    failed: list[int] = []
    index = server.app.follower._index
    with caplog.at_level(logging.ERROR):
        error = real_damage(tmp_path)
        monkeypatch.setattr(jobs, "next_waiting", fail_times(jobs.next_waiting, error, 1000, failed))
        wait_until(lambda: len(failed) >= 2, "the index's thread to meet it")
        wait_until(lambda: health(server, INDEX_HEALTH) == NOT_SERVING, "health to tell it")
        assert health(server, "") == NOT_SERVING
        assert found(caller, "violin") == ["a violin"]
    assert "reflexio-server restore" in caplog.text
    said = "Failing: the thread chroma of the server, by Damaged"
    wait_until(lambda: said in status(server), "the command to tell it")
    wait_until(lambda: (metric(server, "reflexio_thread_failures_total", "chroma") or 0) >= 2, "the metric to tell it")
    failed += [0] * 1000
    wait_until(lambda: health(server, INDEX_HEALTH) == SERVING, "the index to be well")
    wait_until(lambda: "Failing" not in status(server), "the command to tell that too")
    assert '"failing": {}' in status(server, "--json")
    assert server.app.follower._index is index, "it was never closed"
    assert folders(server.data_dir) == ["1"]


def test_a_failing_model_thread_is_told_too(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = server.new_caller()
    wait_for_index(server)
    failed: list[int] = []
    assert health(server, INDEX_HEALTH) == SERVING
    monkeypatch.setattr(waiting, "oldest", fail_times(waiting.oldest, SystemExit(2), 2, failed))
    caller.publish("u", "a violin")
    wait_until(lambda: health(server, INDEX_HEALTH) == NOT_SERVING, "health to tell it")
    assert "the thread indexer of the server, by SystemExit" in status(server)
    wait_until(lambda: health(server, INDEX_HEALTH) == SERVING, "the thread to be well")
    wait_for_index(server)
    assert found(caller, "violin") == ["a violin"]


def test_what_a_killed_server_left_is_not_told(server: LocalServer) -> None:
    wait_until(lambda: server.app.backstage.watch._told is not None, "its first look, which removes the file")
    server.app.backstage.watch._file.write_text('{"chroma": "PanicException"}')
    assert "by PanicException" in status(server)
    server.app.backstage.watch._file.write_text("damaged")
    assert "Failing" not in status(server)
