"""Login tries where servers share a store: those of all of them together are bounded as those of one."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio_server.core import shared_tries
from reflexio_server.core.logins import Logins
from reflexio_server.core.shared_tries import SharedTries
from reflexio_server.errors import TooBusy, Unauthenticated
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer
from tests import stores
from tests.command import run
from tests.support import PASSWORD, ServerProcess, failure_of, log_in

pytestmark = pytest.mark.sqlite  # each test chooses its database
EMAIL = "someone@example.com"


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


@pytest.fixture
def process(url: str, tmp_path: Path) -> Iterator[Callable[..., Logins]]:
    """Bounds as a process has them that shares the database with others."""
    opened: list[tuple[Writer, Database]] = []

    def made(tries: int = 10, tries_per_address: int = 30) -> Logins:
        database = Database(tmp_path / str(len(opened)), owner=True, url=url)
        writer = Writer(database, 100)
        opened.append((writer, database))
        return Logins(shared=SharedTries(writer, tries, tries_per_address))

    yield made
    for writer, database in opened:
        writer.close()
        database.close()


def attempt(bound: Logins, email: str = EMAIL, address: str = "1.2.3.4", *, right: bool = False) -> float | None:
    """None when it was let in, else the seconds to wait."""
    try:
        with bound.attempt(email, address):
            if not right:
                raise Unauthenticated
    except TooBusy as refused:
        return refused.retry_after
    except Unauthenticated:
        pass
    return None


def rows(url: str) -> list[Any]:
    with psycopg.connect(url) as conn:
        return conn.execute("SELECT * FROM login_tries ORDER BY key").fetchall()


def pass_by(url: str, seconds: float) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE login_tries SET full_at = full_at - %s", (int(seconds * 1e6),))


def test_tries_are_counted_over_all_processes(url: str, process: Callable[..., Logins]) -> None:
    one, two = process(tries_per_address=3000), process(tries_per_address=3000)
    assert [attempt(one) for _ in range(5)] + [attempt(two) for _ in range(5)] == [None] * 10
    before = rows(url)
    for bound in (one, two):
        wait = attempt(bound)
        assert wait
        assert 20 < wait <= 60
        assert attempt(bound, right=True), "a right one neither: it is not looked at"
    assert rows(url) == before, "a refused try leaves nothing"
    assert attempt(two, address="5.6.7.8") is None
    assert attempt(two, email="other@example.com") is None
    pass_by(url, 61)
    assert attempt(two) is None
    assert attempt(one)
    pass_by(url, 24 * 3600)
    assert [attempt(one) for _ in range(10)] == [None] * 10
    assert attempt(two), "no more than ten, however long it was quiet"


def test_an_address_has_thirty_a_minute_whatever_the_account_and_a_third_of_them_at_once(
    url: str, process: Callable[..., Logins]
) -> None:
    one, two = process(), process()
    for number in range(10):
        assert attempt((one, two)[number % 2], f"{number}@b.c") is None
    wait = attempt(two, "another@b.c")
    assert wait
    assert wait <= 2
    pass_by(url, 4.5)
    assert [attempt(one, "more@b.c") for _ in range(2)] == [None] * 2


def test_a_success_begins_anew_and_what_fails_for_another_reason_costs_nothing(
    url: str, process: Callable[..., Logins]
) -> None:
    one, two = process(tries=3), process(tries=3)
    for _ in range(5):
        assert attempt(one) is None
        assert attempt(two) is None
        assert attempt(one, right=True) is None
        pass_by(url, 4)
    two = process(tries=1)
    for _ in range(5):
        with pytest.raises(OSError, match="disk"), two.attempt("b@b.c", "5.6.7.8"):
            raise OSError("disk")
    assert attempt(two, "b@b.c", "5.6.7.8") is None


def test_many_at_once_get_no_more_tries_than_one_after_the_other(process: Callable[..., Logins]) -> None:
    bounds = [process(tries=5, tries_per_address=3000) for _ in range(3)]
    with ThreadPoolExecutor(15) as threads:
        let_in = [wait is None for wait in threads.map(lambda number: attempt(bounds[number % 3]), range(150))]
    assert sum(let_in) == 5


def test_nothing_typed_in_is_kept_and_what_is_full_goes(
    url: str, process: Callable[..., Logins], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = process(tries_per_address=3000)
    for number in range(20):
        attempt(bound, f"{number}@b.c")
    found = rows(url)
    assert len(found) == 21
    assert {len(key) for key, _ in found} == {16}
    pass_by(url, 3600)
    monkeypatch.setattr(shared_tries, "_SWEEP_SECONDS", 0.0)
    monkeypatch.setattr(bound._tries, "_sweep_at", 0.0)
    attempt(bound)
    assert len(rows(url)) == 2
    with psycopg.connect(url) as conn:
        kind = conn.execute("SELECT relpersistence FROM pg_class WHERE relname = 'login_tries'").fetchone()
    assert kind == ("u",), "unlogged"


def test_three_servers_let_no_more_wrong_tries_through_than_one(url: str, tmp_path: Path, model_dir: Path) -> None:
    env = {**os.environ, "REFLEXIO_DATABASE_URL": url}
    made = run("accounts", "create", EMAIL, "--data-dir", tmp_path / "elsewhere", env=env, given=PASSWORD + "\n")
    assert made.exit_code == 0, made.stderr
    servers = [ServerProcess(tmp_path / f"{number}", model_dir, env=env) for number in range(3)]
    checked = 0
    try:
        request = auth_pb.LoginRequest(email=EMAIL, password="not the password")
        for _ in range(10):
            for server in servers:
                with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
                    auth_grpc.AuthServiceStub(channel).Login(request, timeout=30)
                found = failure_of(caught.value)
                checked += found.code is grpc.StatusCode.UNAUTHENTICATED
                if found.code is not grpc.StatusCode.UNAUTHENTICATED:
                    assert (found.code, found.info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY")
                    assert found.retry_seconds
        assert 10 <= checked <= 11
        pass_by(url, 3600)
        assert log_in(servers[0].address, EMAIL).api_key
    finally:
        for server in servers:
            server.terminate()
