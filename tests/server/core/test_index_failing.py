"""The Chroma index fails in use, or cannot be opened: the server answers all the same."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflexio_server.core import following
from reflexio_server.index.chroma_process import ChromaProcess
from reflexio_server.storage import collections
from tests.server.core.recovery import (
    LATER,
    QUESTIONS,
    Asked,
    back,
    damage,
    filled,
    publish,
    same,
    searches,
    stamps,
    stopped_store,
    unindexed,
    wait_for_index,
)
from tests.state import folders
from tests.support import LocalServer
from tests.wire import wait_until
from tests.words import Words

pytestmark = pytest.mark.usefixtures("every_account")


@pytest.mark.parametrize("method", ["query", "upsert"])
def test_an_index_that_fails_in_use_is_built_anew(
    tmp_path: Path,
    start: Callable[..., LocalServer],
    embedder: Words,
    asked: Asked,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    server, caller = filled(start, tmp_path)
    expected = searches(caller)
    made = stamps(tmp_path)
    failing = server.app.follower._index
    failures: list[str] = []
    assert failing

    def fail(*_: object) -> None:
        failures.append(method)
        raise RuntimeError("the index is broken")

    monkeypatch.setattr(failing, method, fail)
    asked.queries = 0
    if method == "upsert":
        publish(caller, [LATER])
        wait_until(lambda: failures, "the failure")
    assert same(searches(caller), expected), "the search that meets the failure answers too"
    wait_until(lambda: server.app.follower._index not in (None, failing), "another index")
    wait_for_index(server)
    assert failures == [method]
    assert folders(tmp_path) == ["1.damaged", "2"]
    asked.queries = 0
    assert same(searches(caller), expected)
    assert asked.queries == len(QUESTIONS)
    assert stamps(tmp_path)[: len(made)] == made


def test_an_index_whose_process_is_killed_is_checked_and_kept(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked
) -> None:
    server, caller = filled(start, tmp_path)
    expected = searches(caller)
    made, upserts = stamps(tmp_path), asked.upserts
    index = server.app.follower._index
    assert isinstance(index, ChromaProcess)
    os.kill(index.pid, signal.SIGKILL)
    assert same(searches(caller), expected), "the search that meets it answers too"
    wait_until(lambda: server.app.follower._index not in (None, index), "the next process")
    wait_for_index(server)
    assert (asked.checks, asked.upserts, folders(tmp_path)) == (1, upserts, ["1"])
    asked.queries = 0
    assert same(searches(caller), expected)
    assert asked.queries == len(QUESTIONS)
    assert stamps(tmp_path) == made


def test_a_search_that_saw_the_old_index_does_not_ask_the_new_one(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words
) -> None:
    """Its snapshot says how far the old one was; the new one may hold nothing yet."""
    server, caller = filled(start, tmp_path)
    with server.app.database.read() as conn:
        (old,) = collections.live_collections(conn, server.live_model())
    vector = embedder.embed_query("boat")
    found = server.app.follower.query(old, vector, 10, None)
    assert found
    assert len(found[0]) == 10
    shutil.rmtree(tmp_path / "chroma/1")
    publish(caller, [LATER])
    wait_until(lambda: folders(tmp_path) and folders(tmp_path)[-1] != "1", "another index")
    wait_for_index(server)
    assert server.app.follower.query(old, vector, 10, None) is None
    with server.app.database.read() as conn:
        (new,) = collections.live_collections(conn, server.live_model())
    assert new.folder > old.folder
    assert server.app.follower.query(new, vector, 10, None)


def test_an_index_that_always_fails_is_not_built_over_and_over(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.01)
    _, caller = filled(start, tmp_path)
    expected = searches(caller)
    opened: list[float] = []
    init = ChromaProcess.__init__

    def note_time(*given: Any) -> None:
        opened.append(time.monotonic())
        init(*given)

    def fail(*_: object) -> None:
        raise RuntimeError("the index is broken")

    monkeypatch.setattr(ChromaProcess, "__init__", note_time)
    monkeypatch.setattr(ChromaProcess, "query", fail)

    def ask() -> bool:
        assert same(searches(caller), expected)
        return len(opened) >= 7

    wait_until(ask, "the seventh try")
    pauses = [later - earlier for earlier, later in itertools.pairwise(opened)]
    assert pauses[-1] >= 0.01 * 2**6, "each pause is twice the one before"


def test_an_index_that_cannot_be_opened_keeps_nothing_down(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_FIRST_PAUSE", 0.01)
    caller, expected = stopped_store(start, tmp_path)
    opened: list[Path] = []

    def fail(process: ChromaProcess, **_: Any) -> None:
        opened.append(process.folder)
        raise RuntimeError("the index is broken")

    with monkeypatch.context() as patched:
        patched.setattr(ChromaProcess, "open", fail)
        server = start(tmp_path)
        caller = back(server, caller)
        wait_until(lambda: len(opened) >= 3, "the third try")
        assert same(searches(caller), expected)
        caller.publish("user 0", LATER)
        wait_until(lambda: unindexed(caller) == 0, "the new vector")
        assert caller.search(query="violin").hits[0].interaction.content == LATER
        assert caller.get(user_id="user 0", page_size=1).interactions[0].content == LATER
    wait_for_index(server)  # it mends itself when the fault is gone
    assert same(searches(caller), expected)


def test_an_index_whose_check_always_crashes_keeps_nothing_down(
    tmp_path: Path, start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child dies by SIGSEGV, as Chroma's native code does on some damaged folders."""
    caller, expected = stopped_store(start, tmp_path)
    children: list[subprocess.Popen[str]] = []
    started: list[int] = []
    popen = subprocess.Popen

    def crash(command: list[str], **named: Any) -> subprocess.Popen[str]:
        """The first of each server's, not those that open a folder anew."""
        if len(children) < len(started):
            children.append(popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"], **named))
            return children[-1]
        return popen(command, **named)

    monkeypatch.setattr(subprocess, "Popen", crash)
    for number in range(3):
        damage(tmp_path / f"chroma/{number + 1}.closed", "deleted")
        started.append(number)
        server = start(tmp_path)
        caller = back(server, caller)
        assert same(searches(caller), expected)
        wait_for_index(server)
        assert same(searches(caller), expected)
        server.stop()
    assert [child.returncode for child in children] == [-signal.SIGSEGV] * 3
