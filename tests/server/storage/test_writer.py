"""The writer on a real SQLite file: what waits together is committed together, and nobody pays for a neighbour."""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alembic import op
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from reflexio_server.errors import DatabaseUnavailable, DiskFull, Draining, TooBusy
from reflexio_server.model import ApiKey, NewInteraction, NewRequest, Outcome, Picture, StoredRequest, UserAction
from reflexio_server.storage import own_log, sqlite
from reflexio_server.storage.accounts import add_account, add_key, list_keys
from reflexio_server.storage.database import DATABASE_FILE, Database
from reflexio_server.storage.writer import Writer

pytestmark = pytest.mark.sqlite  # its locks and driver

ACCOUNT = 1
NO_SUCH_ACCOUNT = 999
SECONDS = 30


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path, owner=True, readers=4)
    with opened.write() as conn:
        add_account(conn, "a@example.com", "aaaaaaaaaa", "hash", 1)
        conn.execute(text("CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT)"))
    yield opened
    opened.close()


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    running = Writer(database, 1000)
    yield running
    running.close()


@pytest.fixture
def statements(database: Database) -> list[str]:
    """What SQLite is told by the writing connection from now on."""
    told: list[str] = []
    with database.write() as conn:
        driver(conn).set_trace_callback(told.append)
    told.clear()
    return told


def driver(conn: Connection) -> sqlite3.Connection:
    connection = conn.connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    return connection


class Gate:
    """Holds the writer inside an operation, so that what is submitted meanwhile becomes one batch."""

    def __init__(self, writer: Writer) -> None:
        self._entered, self._open = threading.Event(), threading.Event()
        self.done = writer.submit(self._wait)
        assert self._entered.wait(SECONDS)

    def _wait(self, _conn: Connection) -> None:
        self._entered.set()
        assert self._open.wait(SECONDS)

    def open(self) -> None:
        self._open.set()
        self.done.result(SECONDS)


def request(name: str, *contents: str, picture: bytes = b"") -> NewRequest:
    image = Picture(picture, hashlib.sha256(picture).digest(), "image/png", 1, 1) if picture else None
    items = [
        NewInteraction("User", content, UserAction.NONE, "", "", image, None)
        for content in contents or (f"text {name}",)
    ]
    return NewRequest(name, "user", "", "", "", tuple(items), hashlib.sha256(name.encode()).digest())


def note(value: str) -> Callable[[Connection], str]:
    def write(conn: Connection) -> str:
        conn.execute(text("INSERT INTO notes (note) VALUES (:value)"), {"value": value})
        return value

    return write


def failing_note(value: str) -> Callable[[Connection], str]:
    def write(conn: Connection) -> str:
        note(value)(conn)
        raise RuntimeError(value)

    return write


def notes(database: Database) -> list[str]:
    with database.read() as conn:
        return list(conn.execute(text("SELECT note FROM notes ORDER BY id")).scalars())


def stored(database: Database) -> list[tuple[str, int]]:
    """(request_id, sequence) of every interaction in the order of storing."""
    query = text(
        "SELECT r.request_id, i.sequence FROM interactions i JOIN requests r ON r.id = i.request_ref ORDER BY i.id"
    )
    with database.read() as conn:
        return [(name, sequence) for name, sequence in conn.execute(query)]


def only(future: Future[list[Outcome]]) -> StoredRequest:
    (outcome,) = future.result(SECONDS)
    assert isinstance(outcome, StoredRequest)
    return outcome


def commits(statements: Sequence[str]) -> int:
    return sum(statement == "COMMIT" for statement in statements)


def test_what_waits_together_is_one_commit_publishes_first(
    database: Database, writer: Writer, statements: list[str]
) -> None:
    gate = Gate(writer)
    first = writer.submit(note("first"), [ACCOUNT])
    published = [writer.publish(ACCOUNT, [request(f"r{i}", "a", "b")]) for i in range(5)]
    seen = writer.submit(lambda conn: conn.execute(text("SELECT count(*) FROM interactions")).scalar_one(), [ACCOUNT])
    last = writer.submit(note("last"), [ACCOUNT])
    gate.open()
    assert [only(future).request_id for future in published] == [f"r{i}" for i in range(5)]
    assert (first.result(SECONDS), seen.result(SECONDS), last.result(SECONDS)) == ("first", 10, "last")
    assert commits(statements) == 2, "the gate's and one for all that waited"
    assert notes(database) == ["first", "last"]
    assert stored(database) == [(f"r{i // 2}", i + 1) for i in range(10)]


def test_what_is_no_accounts_has_a_transaction_of_its_own(
    database: Database, writer: Writer, statements: list[str]
) -> None:
    gate = Gate(writer)
    published = [writer.publish(ACCOUNT, [request("r1")])]
    alone = [writer.submit(note(name)) for name in ("a", "b")]
    published.append(writer.publish(ACCOUNT, [request("r2")]))
    last = writer.submit(note("c"), [ACCOUNT])
    gate.open()
    assert [future.result(SECONDS) for future in (*alone, last)] == ["a", "b", "c"]
    assert [only(future).request_id for future in published] == ["r1", "r2"]
    assert commits(statements) == 5
    assert notes(database) == ["a", "b", "c"]


def test_everything_begins_immediate(writer: Writer, statements: list[str]) -> None:
    writer.submit(note("x"), [ACCOUNT]).result(SECONDS)
    only(writer.publish(ACCOUNT, [request("r")]))
    assert [statement for statement in statements if statement.startswith("BEGIN")] == ["BEGIN IMMEDIATE"] * 2


def test_a_writing_transaction_keeps_other_writers_out_from_its_beginning(tmp_path: Path, database: Database) -> None:
    other = sqlite3.connect(tmp_path / DATABASE_FILE, timeout=0, isolation_level=None)
    with database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    with database.read() as conn:
        conn.execute(text("SELECT * FROM notes")).all()
        other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
    other.close()


def test_a_future_is_done_after_its_commit_never_before(tmp_path: Path, database: Database, writer: Writer) -> None:
    other = sqlite3.connect(tmp_path / DATABASE_FILE, check_same_thread=False, isolation_level=None)

    def count() -> int:
        (found,) = other.execute("SELECT (SELECT count(*) FROM interactions) + (SELECT count(*) FROM notes)").fetchone()
        return int(found)

    def look_inside(conn: Connection) -> int:
        note("seen after the commit")(conn)
        return count()

    at_done: list[int] = []
    gate = Gate(writer)
    futures: list[Future[Any]] = [writer.publish(ACCOUNT, [request(f"r{i}")]) for i in range(3)]
    inside = writer.submit(look_inside, [ACCOUNT])
    futures.append(inside)
    for future in futures:  # runs in the writer at the very moment the future is done
        future.add_done_callback(lambda _: at_done.append(count()))
    gate.open()
    for future in futures:
        future.result(SECONDS)
    writer.submit(note("behind all callbacks"), [ACCOUNT]).result(SECONDS)
    assert inside.result() == 0
    assert at_done == [4, 4, 4, 4]
    other.close()


def test_a_failing_write_costs_its_neighbours_nothing(
    database: Database, writer: Writer, statements: list[str]
) -> None:
    gate = Gate(writer)
    before = writer.publish(ACCOUNT, [request("before")])
    bad = writer.publish(NO_SUCH_ACCOUNT, [request("bad")])
    half_bad = writer.submit(failing_note("undone"), [ACCOUNT])
    good = writer.submit(note("kept"), [ACCOUNT])
    after = writer.publish(ACCOUNT, [request("after")])
    worst = writer.submit(lambda conn: conn.execute(text("no SQL")), [ACCOUNT])
    last = writer.submit(note("kept too"), [ACCOUNT])
    gate.open()

    assert [only(before).replayed, only(after).replayed] == [False, False]
    assert (good.result(SECONDS), last.result(SECONDS)) == ("kept", "kept too")
    with pytest.raises(RuntimeError, match="undone"):
        half_bad.result(SECONDS)
    for future in (bad, worst):
        assert future.exception(SECONDS) is not None
    assert stored(database) == [("before", 1), ("after", 2)]
    assert notes(database) == ["kept", "kept too"]
    assert commits(statements) == 2


def limit_pages(room: int) -> Callable[[Connection], None]:
    """Lets the database grow by so many pages only: SQLite then fails as on a full disk."""

    def limit(conn: Connection) -> None:
        pages = conn.execute(text("PRAGMA page_count")).scalar_one()
        conn.execute(text(f"PRAGMA max_page_count = {pages + room}"))

    return limit


def test_a_full_disk_takes_no_neighbour_with_it(database: Database, writer: Writer) -> None:
    """SQLite undoes the whole transaction then; what ran before in it must not be acknowledged and lost."""
    only(writer.publish(ACCOUNT, [request("first")]))
    writer.submit(limit_pages(30), [ACCOUNT]).result(SECONDS)
    gate = Gate(writer)
    small = writer.publish(ACCOUNT, [request("small")])
    large = writer.publish(ACCOUNT, [request("large", "a picture", picture=bytes(1_000_000))])
    before = writer.submit(note("before"), [ACCOUNT])
    larger = writer.submit(
        lambda conn: conn.execute(text("INSERT INTO notes (note) VALUES (zeroblob(1000000))")), [ACCOUNT]
    )
    after = writer.submit(note("after"), [ACCOUNT])
    small_too = writer.publish(ACCOUNT, [request("small too")])
    gate.open()

    assert [only(small).request_id, only(small_too).request_id] == ["small", "small too"]
    assert (before.result(SECONDS), after.result(SECONDS)) == ("before", "after")
    assert isinstance(large.exception(SECONDS), DiskFull)
    assert isinstance(larger.exception(SECONDS), DiskFull)
    assert stored(database) == [("first", 1), ("small", 2), ("small too", 3)]
    assert notes(database) == ["before", "after"]

    writer.submit(limit_pages(100_000), [ACCOUNT]).result(SECONDS)
    assert not only(writer.publish(ACCOUNT, [request("large", "a picture", picture=bytes(1_000_000))])).replayed
    assert stored(database)[-1] == ("large", 4)


def test_a_failed_commit_fails_everybody_and_the_next_batch_works(database: Database, writer: Writer) -> None:
    def cannot_commit(conn: Connection) -> None:
        conn.execute(text("PRAGMA defer_foreign_keys = ON"))
        conn.execute(text("INSERT INTO users (account_id, user_id) VALUES (999, 'of no account')"))

    gate = Gate(writer)
    futures: list[Future[Any]] = [
        writer.publish(ACCOUNT, [request("lost")]),
        writer.submit(note("lost"), [ACCOUNT]),
        writer.submit(cannot_commit, [ACCOUNT]),
        writer.submit(note("lost too"), [ACCOUNT]),
    ]
    gate.open()
    for future in futures:
        assert isinstance(future.exception(SECONDS), IntegrityError)
    assert (stored(database), notes(database)) == ([], [])

    again = writer.publish(ACCOUNT, [request("lost"), request("next")])
    assert [outcome.request_id for outcome in again.result(SECONDS)] == ["lost", "next"]
    assert writer.submit(note("next"), [ACCOUNT]).result(SECONDS) == "next"
    assert (stored(database), notes(database)) == ([("lost", 1), ("next", 2)], ["next"])


def test_a_database_that_another_process_keeps_locked_is_too_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 50)
    database = Database(tmp_path, owner=True)
    with database.write() as conn:
        add_account(conn, "a@example.com", "aaaaaaaaaa", "hash", 1)
    writer = Writer(database, 10)
    other = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert isinstance(writer.publish(ACCOUNT, [request("r")]).exception(SECONDS), TooBusy)
    other.execute("ROLLBACK")
    assert not only(writer.publish(ACCOUNT, [request("r")])).replayed
    writer.close()
    other.close()
    database.close()


def test_a_full_queue_is_too_busy_and_recovers(database: Database) -> None:
    writer = Writer(database, 3)
    gate = Gate(writer)
    futures: list[Future[Any]] = [
        writer.submit(note("a"), [ACCOUNT]),
        writer.publish(ACCOUNT, [request("b")]),
        writer.submit(note("c"), [ACCOUNT]),
    ]
    for _ in range(2):
        with pytest.raises(TooBusy):
            writer.publish(ACCOUNT, [request("d")])
        with pytest.raises(TooBusy):
            writer.submit(note("d"), [ACCOUNT])
    gate.open()
    for future in futures:
        future.result(SECONDS)
    only(writer.publish(ACCOUNT, [request("e")]))
    writer.close()
    assert notes(database) == ["a", "c"]
    assert stored(database) == [("b", 1), ("e", 2)]


def test_close_finishes_what_was_submitted_then_refuses(database: Database) -> None:
    writer = Writer(database, 10)
    gate = Gate(writer)
    futures: list[Future[Any]] = [writer.submit(note(str(i)), [ACCOUNT]) for i in range(9)]
    futures.append(writer.publish(ACCOUNT, [request("last")]))  # the queue is full now
    closing = threading.Thread(target=writer.close)
    closing.start()
    while True:  # until `close` has begun
        try:
            writer.submit(note("late"), [ACCOUNT])
        except Draining:
            break
        except TooBusy:
            continue
    gate.open()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert all(future.done() and future.exception() is None for future in futures)
    assert notes(database) == [str(i) for i in range(9)]
    with pytest.raises(Draining):
        writer.publish(ACCOUNT, [request("late")])
    writer.close()  # once more does nothing


def test_many_threads_share_commits_and_leave_no_gap(database: Database, writer: Writer, statements: list[str]) -> None:
    def produce(thread: int) -> list[tuple[int, ...]]:
        return [only(writer.publish(ACCOUNT, [request(f"{thread}-{i}", "a", "b")])).refs for i in range(25)]

    with ThreadPoolExecutor(16) as pool:
        refs = [refs for produced in pool.map(produce, range(16)) for refs in produced]
    assert sorted(ref for pair in refs for ref in pair) == list(range(1, 801))
    found = stored(database)
    assert [sequence for _, sequence in found] == list(range(1, 801))
    assert len({name for name, _ in found}) == 400
    assert commits(statements) < 400


def test_the_same_request_twice_in_one_batch_is_stored_once(database: Database, writer: Writer) -> None:
    gate = Gate(writer)
    first, second = (writer.publish(ACCOUNT, [request("same", "a", "b")]) for _ in range(2))
    gate.open()
    assert (only(first).replayed, only(second).replayed) == (False, True)
    assert only(first).interaction_ids == only(second).interaction_ids
    assert stored(database) == [("same", 1), ("same", 2)]


def test_a_key_whose_commit_got_no_answer_is_there_once(database: Database) -> None:
    answers = [False, True]

    @contextmanager
    def answered_late() -> Iterator[Connection]:
        with database.write() as conn:
            yield conn
        if not answers.pop(0):
            raise DatabaseUnavailable

    writer = Writer(database, 10, transaction=answered_late)
    key = ApiKey("key", "hint", 1, None)
    writer.submit(lambda conn: add_key(conn, ACCOUNT, key, bytes(32)), [ACCOUNT]).result(SECONDS)
    writer.close()
    assert answers == [], "it was done twice"
    with database.read() as conn:
        assert list_keys(conn, ACCOUNT, None, 10) == [key]


def test_connections_are_durable_and_do_no_checkpoints_by_themselves(tmp_path: Path, database: Database) -> None:
    def settings_of(conn: Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
        return tuple(conn.execute(text(f"PRAGMA {name}")).scalar() for name in names)

    full = 2
    other = Database(tmp_path, owner=False)
    with database.write() as conn:
        assert settings_of(conn) == ("wal", full, 1, 0)
    with database.read() as conn, database.read() as second, other.read() as third:
        assert settings_of(conn) == settings_of(second) == settings_of(third) == ("wal", full, 1, 0)
    with other.write() as conn:
        assert settings_of(conn) == ("wal", full, 1, 0)
    other.close()


def test_others_leave_the_log_to_the_owner(tmp_path: Path, database: Database) -> None:
    file, log = tmp_path / DATABASE_FILE, tmp_path / f"{DATABASE_FILE}-wal"
    before = file.read_bytes()
    other = Database(tmp_path, owner=False)
    for _ in range(3):  # more pages than SQLite and the owner's writer checkpoint after
        with other.write() as conn:
            conn.execute(text(f"INSERT INTO notes (note) VALUES (zeroblob(4096 * {own_log.CHECKPOINT_PAGES // 2}))"))
        with database.read() as conn:
            conn.execute(text("SELECT count(*) FROM notes")).scalar_one()
    other.close()
    assert file.read_bytes() == before
    assert log.stat().st_size > own_log.CHECKPOINT_PAGES * 4096
    with database.write() as conn:
        note("the owner's")(conn)
    assert file.stat().st_size > own_log.CHECKPOINT_PAGES * 4096, "the owner's commit moved the log into the database"


def test_a_snapshot_does_not_move(database: Database, writer: Writer) -> None:
    with database.read() as conn:
        assert conn.execute(text("SELECT count(*) FROM notes")).scalar_one() == 0
        writer.submit(note("later"), [ACCOUNT]).result(SECONDS)
        assert conn.execute(text("SELECT count(*) FROM notes")).scalar_one() == 0
    assert notes(database) == ["later"]


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:

        def fail(*_: object) -> None:
            raise RuntimeError("the power went")

        patched.setattr(op, "execute", fail)  # after all tables were made
        with pytest.raises(RuntimeError, match="the power went"):
            Database(tmp_path, owner=True)
    with sqlite3.connect(tmp_path / DATABASE_FILE) as conn:
        assert conn.execute("SELECT name FROM sqlite_master").fetchall() == []
    conn.close()
    Database(tmp_path, owner=True).close()


def test_a_user_of_any_characters_is_known_again(database: Database, writer: Writer) -> None:
    codes = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]  # all that UTF-8 can say
    users = ["".join(map(chr, codes[start : start + 200])) for start in range(0, len(codes), 200)]
    for time in ("first", "second"):
        writer.publish(
            ACCOUNT, [replace(request(f"{time} {number}"), user_id=user) for number, user in enumerate(users)]
        ).result(SECONDS)
    with database.read() as conn:
        assert list(conn.execute(text("SELECT user_id FROM users ORDER BY id")).scalars()) == sorted(users)
