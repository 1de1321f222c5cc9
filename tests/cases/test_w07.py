"""W7: files that are short are no damage: the index is kept, calls are told to come again, and it all goes on.

Also item 6's few open files: Chroma takes a bounded share of them, and what it closes it does not lose.
"""

import errno
import hashlib
import os
import resource
import secrets
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import chromadb
import grpc
import numpy as np
import pytest

from reflexio.ids import KEY_PREFIX, TAG_LENGTH, checksum, uuid7
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.accounts import new_account
from reflexio_server.index import chroma
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.model import ApiKey
from reflexio_server.shortage import DISK, FILES, MEMORY, shortage
from reflexio_server.storage import accounts as store
from reflexio_server.storage.database import Database
from tests.cases.index_server import PanicException, fail_to_open, quick_server
from tests.state import folders, rows, wait_for_index
from tests.support import PASSWORD, Caller, ServerProcess, create_account, failure_of, log_in
from tests.wire import wait_until
from tools.server_process import OWN, Code

pytestmark = pytest.mark.usefixtures("every_account")

PASSING = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}


@contextmanager
def serving(data_dir: Path, model_dir: Path, *arguments: str, code: Code = OWN) -> Iterator[ServerProcess]:
    server = ServerProcess(data_dir, model_dir, *arguments, module="tests.every_account", code=code)
    try:
        yield server
    finally:
        server.kill()


def in_chroma(data_dir: Path) -> bool:
    """Whether every stored interaction has a vector, and each is in Chroma."""
    (behind,) = rows(
        data_dir,
        """SELECT (SELECT count(*) FROM waiting) + (SELECT count(*) FROM vectors v
           LEFT JOIN collections c ON c.account_id = v.account_id AND c.model = v.model
           WHERE v.id > coalesce(c.applied, 0))""",
    )
    return bool(behind == (0,))


def outcome(call: object) -> object:
    try:
        call()  # type: ignore[operator]
    except grpc.RpcError as error:
        return error
    return None


def test_an_index_outlives_files_that_are_used_up(tmp_path: Path, model_dir: Path) -> None:
    email = create_account(tmp_path)
    with serving(tmp_path, model_dir) as server:
        caller = log_in(server.address, email)
        caller.publish("u", *(f"a violin number {number}" for number in range(30)))
        wait_until(lambda: in_chroma(tmp_path), "the index")
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))  # not one more can be opened
        errors: list[object] = []
        with ThreadPoolExecutor(24) as pool:
            for round_ in range(4):
                calls = [pool.submit(outcome, lambda n=n: caller.search(query=f"violin {n}")) for n in range(20)]
                calls += [
                    pool.submit(outcome, lambda n=n, r=round_: caller.publish(f"u{n}", f"a trumpet {r} {n}"))
                    for n in range(10)
                ]
                errors += [call.result() for call in calls]
        failed = [failure_of(error) for error in errors if isinstance(error, grpc.RpcError)]
        assert {failure.code for failure in failed} <= PASSING, [failure.text for failure in failed]
        assert all(failure.retry_seconds for failure in failed)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

        caller.publish("u", "a boat", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
        wait_until(lambda: in_chroma(tmp_path), "the index to go on", 120)
        assert folders(tmp_path) == ["1"], "it was kept"
        assert caller.search(query="a boat").hits[0].interaction.content == "a boat"


def test_an_index_that_cannot_be_opened_for_want_of_files_is_kept(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    with quick_server(data_dir, model_dir, monkeypatch) as server:
        caller = server.new_caller()
        caller.publish("u", "a violin", "a boat")
        wait_for_index(server)
    failed: list[int] = []
    short = PanicException("called `Result::unwrap()` on an `Err` value: Too many open files (os error 24)")
    fail_to_open(monkeypatch, short, 3, failed)
    with quick_server(data_dir, model_dir, monkeypatch) as server:
        wait_for_index(server)
        assert len(failed) == 3
    assert folders(data_dir) == ["1"]


def make_accounts(data_dir: Path, count: int) -> list[str]:
    """Keys of so many new accounts; hashing a password for each would take a minute."""
    database = Database(data_dir, owner=False)
    _, _, password_hash = new_account("first@example.com", PASSWORD)
    keys = []
    with database.write() as conn:
        for number in range(count):
            email = f"account{number}@example.com"
            tag = "".join(secrets.choice("abcdefgh") for _ in range(TAG_LENGTH))
            store.add_account(conn, email, tag, password_hash, 1)
            body = f"{KEY_PREFIX}{tag}_{secrets.token_urlsafe(32)}"
            keys.append(body + checksum(body))
            account = store.find_login(conn, email)
            assert account
            key = ApiKey(uuid7(), keys[-1][:12], 1, None)
            store.add_key(conn, account[0].account_id, key, hashlib.sha256(keys[-1].encode()).digest())
    database.close()
    return keys


ACCOUNTS = 150


@pytest.fixture
def few_files(tmp_path: Path) -> Code:
    """Servers that are started by it may open 256 files, and not raise that."""
    limited = tmp_path / "limited"
    limited.write_text(f'#!/bin/sh\nulimit -n 256\nexec "{sys.executable}" "$@"\n')
    limited.chmod(0o700)
    return Code(python=str(limited))


def test_with_256_files_150_accounts_are_searched_and_others_connect(
    tmp_path: Path, model_dir: Path, few_files: Code
) -> None:
    email = create_account(tmp_path)
    keys = make_accounts(tmp_path, ACCOUNTS)
    with serving(tmp_path, model_dir, code=few_files) as server:
        pid = server.process.pid
        assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (256, 256)
        callers = [Caller(server.address, "", key) for key in keys]  # connections of one address are shared
        for number, caller in enumerate(callers):
            caller.publish("u", f"a violin of account {number}", "a boat")
        wait_until(lambda: in_chroma(tmp_path), "the index", 120)
        most = 0
        for number, caller in enumerate(callers):
            answer = caller.search(query="a violin", top_k=5)
            assert answer.unindexed_count == 0
            assert answer.hits[0].interaction.content == f"a violin of account {number}"
            most = max(most, len(os.listdir(f"/proc/{pid}/fd")))
            if number % 30 == 0:
                assert log_in(server.address, email).get(user_id="u").interactions == []
        assert most < 200
        assert folders(tmp_path) == ["1"]
        assert [line for line in server.lines if "open files" in line] == []


def test_what_chroma_is_made_to_close_is_not_lost(tmp_path: Path) -> None:
    """Its files hold the first 1,000 vectors of a collection; the others were not found after it closed one."""
    before = len(os.listdir("/proc/self/fd"))
    index = ChromaIndex(tmp_path / "1", 4)
    matrix = np.random.default_rng(3).normal(size=(1500, 16)).astype(np.float32)
    for start in range(0, 1500, 100):
        index.upsert("collection-0", list(range(start, start + 100)), [1] * 100, matrix[start : start + 100])
    for number in range(1, 12):
        index.upsert(f"collection-{number}", [1, 2], [1, 1], matrix[:2])
    with ThreadPoolExecutor(8) as pool:  # renewed while others ask

        def ask(number: int) -> bool:
            if number % 2:
                return index.query("collection-0", matrix[number], 1)[0] == [number]
            return index.query(f"collection-{number % 11 + 1}", matrix[1], 1)[0] == [2]

        assert all(pool.map(ask, range(0, 1500, 21)))
    assert index.stamps("collection-0").tolist() == list(range(1500))
    assert len(os.listdir("/proc/self/fd")) < before + 100
    index.close()


@pytest.mark.parametrize(("files", "most"), [(64, 4), (256, 16), (1024, 64), (65536, 1000)])
def test_chroma_takes_a_quarter_of_the_files(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (files, files))
    assert chroma.most_open() == most


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (OSError(errno.EMFILE, "x"), FILES),
        (OSError(errno.ENFILE, "x"), FILES),
        (OSError(errno.ENOMEM, "x"), MEMORY),
        (OSError(errno.ENOSPC, "x"), DISK),
        (OSError(errno.EDQUOT, "x"), DISK),
        (MemoryError(), MEMORY),
        (RuntimeError("can't start new thread"), MEMORY),
        (chromadb.errors.InternalError("io error: Too many open files (os error 24)"), FILES),
        (PanicException("called `Result::unwrap()` on an `Err` value: No space left on device"), DISK),
        (chromadb.errors.InternalError("(code: 14) unable to open database file"), FILES),
        (ValueError("Error loading hnsw index"), None),
        (OSError(errno.EIO, "x"), None),
        (OSError(errno.ENOENT, "x"), None),
    ],
)
def test_a_shortage_is_told_from_damage(error: BaseException, what: str | None) -> None:
    assert shortage(error) == what
    wrapped = RuntimeError("while doing something")
    wrapped.__cause__ = error
    assert shortage(wrapped) == what
