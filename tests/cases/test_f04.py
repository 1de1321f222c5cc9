"""F4: whatever native code or anything else raises, the index, the vectors and the writer go on by themselves."""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli.main import main
from reflexio_server.core.listing import Lister
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.storage import waiting
from reflexio_server.storage.group_commit import GroupCommit
from tests.cases.index_server import PanicException, fail_times, fail_to_open, found, quick_server
from tests.state import has_followed, wait_for_index
from tests.support import LocalServer, failure_of
from tests.wire import metric, wait_until
from tests.words import Words

pytestmark = pytest.mark.usefixtures("every_account")

ENDINGS = [
    PanicException("called `Result::unwrap()`"),
    SystemExit(1),
    DeprecationWarning("as with -W error"),
    ValueError("x"),
]


@pytest.fixture
def server(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    with quick_server(tmp_path / "data", model_dir, monkeypatch, metrics_port=0) as running:
        yield running


@pytest.mark.parametrize("error", ENDINGS, ids=lambda error: type(error).__name__)
def test_a_folder_that_cannot_be_opened_at_first_is_opened_later(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failed: list[int] = []
    fail_to_open(monkeypatch, error, 2, failed)
    with quick_server(tmp_path / "data", model_dir, monkeypatch) as server:
        caller = server.new_caller()
        caller.publish("u", "a violin", "a boat")
        assert found(caller, "violin")[0] == "a violin"
        wait_for_index(server)
        assert len(failed) == 2
        assert server.app.follower.thread.failures == 2
        assert server.app.follower.thread.is_alive()


@pytest.mark.parametrize("method", ["query", "upsert", "delete", "names"])
@pytest.mark.parametrize("error", ENDINGS[:2], ids=lambda error: type(error).__name__)
def test_an_index_that_panics_in_use_is_replaced_and_every_search_answered(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, method: str, error: BaseException
) -> None:
    caller = server.new_caller()
    gone = caller.publish("u", "a violin", "a boat").interaction_ids[1]
    wait_for_index(server)
    failed: list[int] = []
    monkeypatch.setattr(ChromaProcess, method, fail_times(getattr(ChromaProcess, method), error, 1, failed))
    assert found(caller, "violin")[0] == "a violin"
    caller.delete_interaction(gone)
    caller.publish("u", "a trumpet")
    if method == "names":
        CliRunner().invoke(main, ["index", "verify", "--data-dir", str(server.data_dir)])
    wait_until(lambda: failed, "the failure")
    wait_until(lambda: has_followed(server), "the index")
    assert server.app.follower.thread.failures == 1
    assert set(found(caller, "a violin")) == {"a violin", "a trumpet"}
    assert caller.search(query="violin").unindexed_count == 0


def test_jobs_end_while_the_index_cannot_be_used(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        fail_to_open(patched, PanicException("always"), sys.maxsize, [])
        with quick_server(tmp_path / "data", model_dir, monkeypatch) as server:
            server.new_caller().publish("u", "a violin")
            asked = CliRunner().invoke(main, ["index", "rebuild", "--data-dir", str(server.data_dir)])
            assert asked.exit_code == 1
            assert "the index cannot be used now (ChromaFailed): ask again later" in asked.output
            patched.undo()
            wait_for_index(server)
            asked = CliRunner().invoke(main, ["index", "rebuild", "--data-dir", str(server.data_dir)])
            assert asked.exit_code == 0, asked.output


def test_a_log_that_cannot_be_written_ends_nothing(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a standard error that is closed: logging's own handlers raise ValueError then."""

    class Closed(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("I/O operation on closed file")

    caller = server.new_caller()
    wait_for_index(server)
    closed = Closed()
    root = logging.getLogger()
    root.addHandler(closed)
    try:
        failed: list[int] = []
        panic = PanicException("once")
        monkeypatch.setattr(ChromaProcess, "upsert", fail_times(ChromaProcess.upsert, panic, 1, failed))
        monkeypatch.setattr(waiting, "first", fail_times(waiting.first, panic, 1, failed := []))
        caller.publish("u", "a violin")
        wait_until(lambda: failed, "the failures")
        wait_for_index(server)
    finally:
        root.removeHandler(closed)
    assert found(caller, "violin") == ["a violin"]


@pytest.mark.parametrize("error", ENDINGS, ids=lambda error: type(error).__name__)
def test_a_text_that_makes_the_model_panic_costs_itself_alone(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    embed = Words.embed

    def panic(words: Words, text: str) -> Any:
        if "unspeakable" in text:
            raise error
        return embed(words, text)

    monkeypatch.setattr(Words, "embed", panic)
    with quick_server(tmp_path / "data", model_dir, monkeypatch) as server:
        caller = server.new_caller()
        caller.publish("u", "unspeakable", "a boat")
        caller.publish("u", "a violin")
        wait_for_index(server)
        assert server.app.vector_maker.failed == 1
        assert set(found(caller, "boat")) == {"a boat", "a violin"}


def test_the_thread_that_makes_vectors_begins_again(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[int] = []
    panic = PanicException("of the driver")
    monkeypatch.setattr(waiting, "oldest", fail_times(waiting.oldest, panic, 1, failed))
    caller = server.new_caller()
    caller.publish("u", "a violin")
    wait_for_index(server)
    assert server.app.vector_maker.thread.failures == len(failed) == 1
    assert metric(server, "reflexio_thread_failures_total", "indexer") == 1


@pytest.mark.parametrize("error", ENDINGS, ids=lambda error: type(error).__name__)
def test_a_call_that_panics_is_answered_with_an_id(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def panic(*_: Any, **__: Any) -> None:
        raise error

    caller = server.new_caller()
    monkeypatch.setattr(Lister, "page", panic)
    with pytest.raises(grpc.RpcError) as refused:
        caller.get(user_id="u")
    failure = failure_of(refused.value)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.info.metadata["error_id"]
    assert "unwrap" not in failure.text


@pytest.mark.parametrize("error", ENDINGS, ids=lambda error: type(error).__name__)
def test_a_write_that_panics_costs_itself_alone(server: LocalServer, error: BaseException) -> None:
    writer = server.app.vector_maker._writer

    def panic(_: Any) -> None:
        raise error

    failing = [writer.submit(panic) for _ in range(3)]
    assert writer.submit(lambda _conn: 7).result(30) == 7
    for one in failing:
        assert type(one.exception(30)) is type(error)


def test_a_write_waits_for_nothing_when_the_writer_itself_fails(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = server.app.vector_maker._writer
    failing = fail_times(GroupCommit.commit, PanicException("once"), 1, [])
    monkeypatch.setattr(GroupCommit, "commit", failing)
    lost = writer.submit(lambda _conn: 1)
    assert type(lost.exception(30)) is PanicException
    assert writer.submit(lambda _conn: 2).result(30) == 2
    caller = server.new_caller()
    assert caller.publish("u", "a boat", wait_until=pb.WAIT_UNTIL_STORED).interaction_ids


def test_warnings_as_errors_do_not_end_indexing(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    upsert = ChromaProcess.upsert

    def warn(*given: Any, **named: Any) -> None:
        warnings.warn("upserting so is deprecated", DeprecationWarning, stacklevel=1)
        upsert(*given, **named)

    caller = server.new_caller()
    wait_for_index(server)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(ChromaProcess, "upsert", warn)
        caller.publish("u", "a violin")
        wait_until(lambda: server.app.follower.thread.failures, "the failure")
        monkeypatch.setattr(ChromaProcess, "upsert", upsert)
        wait_for_index(server)
    assert found(caller, "violin") == ["a violin"]
