"""How `serve` starts, what stands in its way, and who may read its files."""

import os
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflexio_server.storage.database import DATABASE_FILE, is_owned, own
from tests.command import EMAIL, create, run, run_alone, said
from tests.support import PASSWORD, LocalServer, ServerProcess, log_in


def test_a_directory_in_use_is_said_at_once(tmp_path: Path, model_dir: Path) -> None:
    server = ServerProcess(tmp_path, model_dir)
    try:
        began = time.monotonic()
        second = run_alone("serve", "--port", "0", "--data-dir", tmp_path, "--model-dir", model_dir)
        assert time.monotonic() - began < 30
        assert said(second) == f"another reflexio-server is using {tmp_path}; stop it, or choose another --data-dir"
        assert server.process.poll() is None
    finally:
        server.kill()
    with own(tmp_path):  # free as soon as its owner is dead
        pass


def test_a_port_in_use_is_said(tmp_path: Path, model_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = said(run("serve", "--port", port, "--data-dir", tmp_path, "--model-dir", model_dir))
    assert f"cannot listen on 127.0.0.1:{port}" in text
    assert "--port" in text
    with own(tmp_path):
        pass


def test_two_servers_do_not_share_a_port(tmp_path: Path, model_dir: Path) -> None:
    server = LocalServer(tmp_path / "one", model_dir)
    try:
        port = server.address.rpartition(":")[2]
        two = tmp_path / "two"
        assert "cannot listen" in said(run("serve", "--port", port, "--data-dir", two, "--model-dir", model_dir))
    finally:
        server.stop()


def test_an_address_of_another_machine_is_said(tmp_path: Path, model_dir: Path) -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        arguments = (
            "serve",
            "--insecure",
            "--host",
            host,
            "--port",
            "0",
            "--data-dir",
            tmp_path,
            "--model-dir",
            model_dir,
        )
        assert "the address is not this machine's" in said(run(*arguments))


def test_a_missing_model_names_the_command_that_brings_it(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    text = said(run("serve", "--port", "0", "--data-dir", tmp_path / "data", "--model-dir", folder))
    assert text.endswith(f"Run: reflexio-server model install --model-dir {folder}")


@pytest.mark.sqlite
def test_a_damaged_database_is_said(tmp_path: Path) -> None:
    file = tmp_path / DATABASE_FILE
    file.write_bytes(bytes(range(256)) * 100)
    for command in (("serve", "--port", "0"), ("accounts", "list"), ("accounts", "create", EMAIL)):
        text = said(run(*command, "--data-dir", tmp_path, given=PASSWORD))
        assert text == (
            f"{file} is damaged (file is not a database): bring a backup in with `reflexio-server restore FILE`"
        )
    assert file.read_bytes() == bytes(range(256)) * 100


def test_a_file_in_the_place_of_the_directory_is_said(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for command in (("serve", "--port", "0"), ("accounts", "create", EMAIL)):
        text = said(run(*command, "--data-dir", file, given=PASSWORD))
        assert text == f"cannot use {file}: it is not a folder; check --data-dir and --model-dir"
    assert said(run("accounts", "list", "--data-dir", file)).startswith("there is no database in")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[None]:
    """A folder nobody may write to. Root may write everywhere, so be somebody else meanwhile."""
    tmp_path.chmod(0o500)
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    yield
    os.seteuid(mine)


def test_a_directory_without_permission_is_said(tmp_path: Path, read_only: None) -> None:
    for command in (("serve", "--port", "0"), ("accounts", "create", EMAIL)):
        text = said(run(*command, "--data-dir", tmp_path / "data", given=PASSWORD))
        assert text.startswith(f"cannot use {tmp_path / 'data'}: Permission denied")


@pytest.mark.sqlite
@pytest.mark.parametrize("running", [False, True], ids=["alone", "beside a server"])
def test_a_schema_of_a_newer_version_is_refused(tmp_path: Path, running: bool) -> None:
    assert create(tmp_path).exit_code == 0
    with sqlite3.connect(tmp_path / DATABASE_FILE) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999_later'")
    conn.close()
    before = (tmp_path / DATABASE_FILE).read_bytes()
    commands: list[tuple[str, ...]] = [("accounts", "list"), ("accounts", "create", "other@example.com")]
    commands += [] if running else [("serve", "--port", "0")]
    for command in commands:
        if running:
            with own(tmp_path):  # as a server of the newer version would
                text = said(run(*command, "--data-dir", tmp_path, given=PASSWORD))
        else:
            text = said(run(*command, "--data-dir", tmp_path, given=PASSWORD))
        assert "9999_later" in text
        assert "version" in text
    assert (tmp_path / DATABASE_FILE).read_bytes() == before


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.sqlite
def test_only_their_user_may_read_the_files(tmp_path: Path, model_dir: Path) -> None:
    data_dir = tmp_path / "data"
    made = run_alone("accounts", "create", EMAIL, "--data-dir", data_dir, given=PASSWORD, umask=0)
    assert made.returncode == 0, made.stderr
    assert mode(data_dir) == 0o700
    assert mode(data_dir / DATABASE_FILE) == 0o600
    previous = os.umask(0)
    try:
        server = LocalServer(data_dir, model_dir)
        log_in(server.address, EMAIL).publish("user", "a secret")
        files = {path.name: mode(path) for path in data_dir.glob(f"{DATABASE_FILE}*")}
        server.stop()
    finally:
        os.umask(previous)
    assert files == dict.fromkeys(
        (DATABASE_FILE, *(f"{DATABASE_FILE}-{kind}" for kind in ("wal", "shm", "note"))), 0o600
    )
    assert mode(data_dir) == 0o700


@pytest.mark.sqlite
def test_in_a_directory_that_others_may_read_the_data_is_closed_to_them(tmp_path: Path, model_dir: Path) -> None:
    """A volume that was there before keeps its mode; what is in it must not need that."""
    tmp_path.chmod(0o755)
    assert create(tmp_path).exit_code == 0
    server = LocalServer(tmp_path, model_dir)
    log_in(server.address, EMAIL).publish("user", "a secret")
    server.stop()
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / DATABASE_FILE) == 0o600
    assert [mode(path) for path in (tmp_path / "chroma").iterdir() if path.is_dir()] == [0o700]


def test_what_serve_says_when_it_starts(tmp_path: Path, model_dir: Path) -> None:
    server = ServerProcess(tmp_path, model_dir, "--host", "0.0.0.0", "--insecure")
    try:
        assert server.process.poll() is None
        time.sleep(0.2)
        text = "".join(server.lines)
        assert f"listening on http://{server.address}/, data in {tmp_path}" in text
        assert "0 accounts, 0 interactions" in text
        assert "everything is sent in clear text" in text
        assert "reflexio-server accounts create EMAIL" in text
    finally:
        assert server.terminate() == 0


def test_looking_for_an_owner_keeps_nobody_from_owning(tmp_path: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_owned(tmp_path)
            time.sleep(0.001)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(100):
            with own(tmp_path):
                assert is_owned(tmp_path)
    finally:
        over.set()
        looker.join(10)
    assert not is_owned(tmp_path)
