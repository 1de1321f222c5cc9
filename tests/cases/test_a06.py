"""A6 and W18: backups are made while a server runs and put back whole, and no start plays another file's log."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reflexio_server.core.accounts import new_account
from reflexio_server.storage import accounts, own_log
from reflexio_server.storage.database import DATABASE_FILE, Database, own
from reflexio_server.storage.sqlite_file import DatabaseFile
from tests.command import EMAIL, create, run, said
from tests.support import PASSWORD, Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import to_first_schema

pytestmark = pytest.mark.sqlite  # a backup is a copy of its file

Start = Callable[..., ServerProcess]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    create_account(folder, EMAIL)
    return folder


@pytest.fixture
def serve(data_dir: Path, model_dir: Path) -> Iterator[Start]:
    started: list[ServerProcess] = []

    def run(folder: Path = data_dir) -> ServerProcess:
        started.append(ServerProcess(folder, model_dir))
        return started[-1]

    yield run
    for server in started:
        if server.process.poll() is None:
            server.kill()


def contents(caller: Caller) -> list[str]:
    return sorted(item.content for item in caller.get(user_id="u", page_size=1000).interactions)


def copied_by_sqlite(database: Path, file: Path) -> Path:
    with closing(sqlite3.connect(database)) as reads, closing(sqlite3.connect(file)) as writes:
        reads.backup(writes)
    return file


def refused(data_dir: Path) -> str:
    """What a start says that must not take place; nothing is changed by it."""
    before = {path.name: path.read_bytes() for path in data_dir.glob(f"{DATABASE_FILE}*")}
    text = said(run("serve", "--port", "0", "--data-dir", data_dir))
    assert text == said(run("accounts", "create", "other@example.com", "--data-dir", data_dir, given=PASSWORD))
    assert {path.name: path.read_bytes() for path in data_dir.glob(f"{DATABASE_FILE}*")} == before
    assert "reflexio-server restore" in text
    return text


def test_a_backup_of_a_running_server_is_whole_and_comes_back(
    data_dir: Path, tmp_path: Path, serve: Start, start: Callable[..., LocalServer]
) -> None:
    server = serve()
    caller = log_in(server.address, EMAIL)
    caller.publish("u", "one", "two")
    file = tmp_path / "good.backup"
    made = run("backup", file, "--data-dir", data_dir)
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()].count("good.backup") == 1
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]
    caller.publish("u", "three")
    assert "say --force" in said(run("backup", file, "--data-dir", data_dir))
    assert "is using" in said(run("restore", file, "--data-dir", data_dir))
    assert contents(caller) == ["one", "three", "two"]
    server.kill()

    restored = run("restore", file, "--data-dir", data_dir)
    assert restored.exit_code == 0, restored.output
    aside = next(data_dir.glob(f"{DATABASE_FILE}.before-*Z"))
    assert str(aside) in restored.stdout
    again = start(data_dir)
    assert contents(log_in(again.address, EMAIL)) == ["one", "two"]
    again.stop()
    assert stat.S_IMODE((data_dir / DATABASE_FILE).stat().st_mode) == 0o600

    # What was set aside has its log with it, and so can come back too.
    assert run("restore", aside, "--data-dir", data_dir).exit_code == 0
    last = start(data_dir)
    assert contents(log_in(last.address, EMAIL)) == ["one", "three", "two"]
    last.stop()
    forced = run("backup", file, "--force", "--data-dir", data_dir)
    assert forced.exit_code == 0, forced.output


@pytest.mark.parametrize("how", ["sqlite's backup", "ours", "of an earlier log"])
def test_a_backup_copied_over_a_killed_servers_database_is_refused(
    data_dir: Path, tmp_path: Path, serve: Start, start: Callable[..., LocalServer], how: str
) -> None:
    server = serve()
    caller = log_in(server.address, EMAIL)
    caller.publish("u", "kept")
    file = tmp_path / "good.backup"
    if how == "ours":
        assert run("backup", file, "--data-dir", data_dir).exit_code == 0
    else:
        copied_by_sqlite(data_dir / DATABASE_FILE, file)
    if how == "of an earlier log":
        assert server.terminate() == 0
        server = serve()
    caller = log_in(server.address, EMAIL)
    caller.publish("u", *(f"later {number}" for number in range(200)))
    server.kill()
    shutil.copy(file, data_dir / DATABASE_FILE)
    assert "is not that of reflexio.db" in refused(data_dir)
    text = said(run("backup", tmp_path / "worthless", "--data-dir", data_dir))
    assert "is not that of reflexio.db" in text
    done = run("restore", data_dir / DATABASE_FILE, "--data-dir", data_dir)
    assert done.exit_code == 0, done.output
    again = start(data_dir)
    assert contents(log_in(again.address, EMAIL)) == ["kept"]
    log_in(again.address, EMAIL).publish("u", "new")
    again.stop()
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_copy_without_its_log_is_refused_wherever_it_is(data_dir: Path, tmp_path: Path, serve: Start) -> None:
    server = serve()
    log_in(server.address, EMAIL).publish("u", "in the log alone")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(data_dir / DATABASE_FILE, elsewhere / DATABASE_FILE)
    server.kill()
    assert "was copied without its log" in refused(elsewhere)
    file = elsewhere / DATABASE_FILE
    assert "was copied without its log" in said(run("restore", file, "--data-dir", tmp_path / "new"))
    assert run("restore", "--without-log", file, "--data-dir", tmp_path / "new").exit_code == 0
    assert EMAIL in run("accounts", "list", "--data-dir", tmp_path / "new").stdout


def test_a_database_that_is_gone_is_said(data_dir: Path, serve: Start) -> None:
    server = serve()
    log_in(server.address, EMAIL).publish("u", "in the log")
    server.kill()
    (data_dir / DATABASE_FILE).unlink()
    assert "is gone, though its log" in refused(data_dir)
    own_log.log_of(data_dir / DATABASE_FILE).unlink()
    assert "is gone: bring a backup in" in refused(data_dir)


def test_no_alarm_for_what_is_sound(data_dir: Path, tmp_path: Path, serve: Start) -> None:
    """Kills and starts, a copy of the folder, a database opened by SQLite, one of a version that knew no numbers."""
    for number in range(3):
        server = serve()
        log_in(server.address, EMAIL).publish("u", f"{number}")
        server.kill()
    shutil.copytree(data_dir, tmp_path / "copy")
    shutil.copytree(data_dir, tmp_path / "by sqlite")
    with closing(sqlite3.connect(tmp_path / "by sqlite" / DATABASE_FILE)) as conn:
        conn.execute("SELECT count(*) FROM accounts").fetchall()
    shutil.copytree(data_dir, tmp_path / "without note")
    own_log.note_of(tmp_path / "without note" / DATABASE_FILE).unlink()
    for name in ("copy", "by sqlite", "without note"):
        with own(tmp_path / name):
            Database(tmp_path / name, owner=True).close()
        with closing(sqlite3.connect(tmp_path / name / DATABASE_FILE)) as conn:
            assert conn.execute("SELECT count(*) FROM interactions").fetchone() == (3,)
    server = serve()
    assert server.terminate() == 0
    assert not own_log.log_of(data_dir / DATABASE_FILE).exists()


def test_a_folder_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    assert create(tmp_path).exit_code == 0
    to_first_schema(tmp_path)
    file = tmp_path / DATABASE_FILE
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("PRAGMA user_version = 0")
        conn.execute("PRAGMA wal_autocheckpoint = 0")
        conn.execute("UPDATE accounts SET created_at = 7")
        conn.commit()
        shutil.copytree(tmp_path, tmp_path / "killed")  # with its log
    own_log.note_of(file).unlink()
    own_log.note_of(tmp_path / "killed" / DATABASE_FILE).unlink()
    assert own_log.has_log(tmp_path / "killed" / DATABASE_FILE)
    for folder in (tmp_path, tmp_path / "killed"):
        listed = run("accounts", "list", "--data-dir", folder)
        assert listed.exit_code == 0, listed.output
        assert EMAIL in listed.stdout


def test_checkpoints_keep_the_note_true_at_each_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder as it is after each write, and in the middle of each checkpoint, can be opened."""
    monkeypatch.setattr(own_log, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(own_log, "_AGAIN_PAGES", 5)
    (tmp_path / "data").mkdir()
    database = Database(tmp_path / "data", owner=True, readers=2)
    numbers, copies = [own_log.number_in_file(tmp_path / "data" / DATABASE_FILE)], 0
    write_note, set_number = own_log.OwnLog._write_note, own_log.set_number

    def copy() -> None:
        nonlocal copies
        copies += 1
        shutil.copytree(tmp_path / "data", tmp_path / f"{copies}")

    def noted(self: own_log.OwnLog, *given: int) -> None:
        copy()
        write_note(self, *given)
        copy()

    def numbered(conn: sqlite3.Connection, number: int) -> None:
        set_number(conn, number)
        copy()

    monkeypatch.setattr(own_log.OwnLog, "_write_note", noted)
    monkeypatch.setattr(own_log, "set_number", numbered)
    for number in range(12):
        with database.write() as conn:
            conn.exec_driver_sql(f"CREATE TABLE t{number} (x)")
            conn.exec_driver_sql(f"INSERT INTO t{number} VALUES (randomblob(20000))")
        numbers.append(own_log.number_in_file(tmp_path / "data" / DATABASE_FILE))
    assert database.empty_log()
    monkeypatch.undo()
    database.close()
    assert copies > 10
    assert len(set(numbers)) > 2
    for copied in range(1, copies + 1):
        own_log.check(tmp_path / f"{copied}" / DATABASE_FILE)
    assert all(number is not None and number < 0 for number in numbers)


def test_a_reader_in_the_way_delays_and_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_log, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(own_log, "_AGAIN_PAGES", 5)
    database = Database(tmp_path, owner=True, readers=2)
    with database.read() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM accounts").scalar()
        for number in range(10):
            with database.write() as conn:
                conn.exec_driver_sql(f"CREATE TABLE t{number} (x)")
        own_log.check(tmp_path / DATABASE_FILE)
    with database.write() as conn:
        conn.exec_driver_sql("CREATE TABLE more (x)")
        conn.exec_driver_sql("INSERT INTO more VALUES (randomblob(200000))")
    assert own_log.log_of(tmp_path / DATABASE_FILE).stat().st_size < 1_000_000
    database.close()
    Database(tmp_path, owner=True).close()


@pytest.mark.parametrize("damage", ["no database", "cut", "pages", "newer", "another program's", "missing", "empty"])
def test_what_is_no_backup_changes_nothing(data_dir: Path, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "backup"
    assert run("backup", file, "--data-dir", data_dir).exit_code == 0
    content = bytearray(file.read_bytes())
    if damage == "no database":
        file.write_bytes(os.urandom(50_000))
    elif damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "pages":
        content[8192:40_960] = os.urandom(32_768)
        file.write_bytes(content)
    elif damage == "newer":
        with closing(sqlite3.connect(file)) as conn:
            conn.execute("UPDATE alembic_version SET version_num = '9999_later'")
            conn.commit()
    elif damage == "another program's":
        file.unlink()
        with closing(sqlite3.connect(file)) as conn:
            conn.execute("CREATE TABLE t (x)")
    elif damage == "missing":
        file.unlink()
    else:
        file.write_bytes(b"")
    before = {path.name: path.read_bytes() for path in data_dir.iterdir() if path.is_file()}
    text = said(run("restore", file, "--data-dir", data_dir))
    assert str(file) in text
    assert {path.name: path.read_bytes() for path in data_dir.iterdir() if path.is_file()} == before


def test_a_backup_does_not_take_the_place_of_the_servers_files(data_dir: Path) -> None:
    for name in (DATABASE_FILE, f"{DATABASE_FILE}-wal"):
        text = said(run("backup", data_dir / name, "--force", "--data-dir", data_dir))
        assert "a file of the server's own" in text
    assert "there is no folder" in said(run("backup", data_dir / "no" / "where", "--data-dir", data_dir))


def test_a_checkpoint_that_a_reader_cuts_short_vouches_for_nothing(tmp_path: Path) -> None:
    """It is not synced: after a power cut the file may have the number from before it."""
    database = Database(tmp_path, owner=True)
    path = tmp_path / DATABASE_FILE

    def write(email: str) -> None:
        with database.write() as conn:
            accounts.add_account(conn, *new_account(email, PASSWORD), 1)

    try:
        before = own_log.number_in_file(path)
        write("one@example.com")
        with database.read() as reader:
            accounts.counts(reader)
            write("two@example.com")
            for _ in range(3):
                with database._store.write.connect() as conn:
                    assert isinstance(database._store, DatabaseFile)
                    assert database._store._own_log
                    database._store._own_log.checkpoint(conn.connection.driver_connection)  # type: ignore[arg-type]
                assert own_log.number_in_file(path) != before
                assert before in own_log._read_note(path)
        write("three@example.com")
    finally:
        database.close()
    own_log.check(path)
