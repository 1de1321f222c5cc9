"""F7 and F16 (the server's side): data lies where the path says, whatever is in it, and stays there."""

import os
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reflexio_server.config import Settings
from reflexio_server.storage.database import DATABASE_FILE, Database
from tests.command import EMAIL, create, run, run_alone, said
from tests.support import PASSWORD, LocalServer, ServerProcess
from tests.wire import wait_until

NAMES = (
    "a?b",
    "x%20y",
    "h#s;t&u=v",
    "q'u\"o`t $HOME *",
    "ümläut 测试",
    "file:x?mode=memory",
    ":memory:",
    "%(here)s",
    "~",
)


@pytest.mark.sqlite
@pytest.mark.parametrize("name", NAMES)
def test_everything_lies_in_the_folder_that_was_named(
    tmp_path: Path, start: Callable[..., LocalServer], name: str
) -> None:
    data_dir = tmp_path / name
    server = start(data_dir)
    caller = server.new_caller()
    caller.publish("user", "My parcel never arrived")
    wait_until(lambda: not caller.search(query="parcel").unindexed_count, "the vectors")
    assert caller.search(query="lost delivery").hits
    server.stop()
    assert [path.name for path in tmp_path.iterdir() if path.name != "spool"] == [name]
    assert (data_dir / DATABASE_FILE).stat().st_size > 50_000
    assert stat.S_IMODE((data_dir / DATABASE_FILE).stat().st_mode) == 0o600
    assert list((data_dir / "chroma").glob("*/chroma.sqlite3"))
    assert len(run("accounts", "list", "--data-dir", data_dir).stdout.splitlines()) == 1


def test_two_folders_that_differ_after_a_question_mark_are_two(tmp_path: Path) -> None:
    assert create(tmp_path / "a?b").exit_code == create(tmp_path / "a?c", "other@example.com").exit_code == 0
    assert EMAIL not in run("accounts", "list", "--data-dir", tmp_path / "a?c").stdout


def test_the_model_too(tmp_path: Path, model_dir: Path) -> None:
    models = tmp_path / "m?%20#ö"
    shutil.copytree(model_dir, models)
    ServerProcess(tmp_path / "data", models).kill()


@pytest.mark.sqlite
def test_a_home_is_resolved_in_variables_and_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No shell does it in files of variables, and `--data-dir=~/d` is none for a shell either."""
    env = {"HOME": str(tmp_path), "REFLEXIO_DATA_DIR": "~/d"}
    monkeypatch.chdir(tmp_path)
    assert run_alone("accounts", "create", EMAIL, given=PASSWORD, env=env).returncode == 0
    assert EMAIL in run_alone("accounts", "list", "--data-dir=~/d", env=env | {"REFLEXIO_DATA_DIR": ""}).stdout
    assert (tmp_path / "d" / DATABASE_FILE).exists()
    assert not (tmp_path / "~").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    taken = Settings(model_dir=Path("~/m"), tls_cert=Path("~/c"), tls_key=Path("k"), tls_client_ca=Path("~/a"))
    assert [taken.model_dir, taken.tls_cert, taken.tls_key, taken.tls_client_ca] == [
        tmp_path / name for name in ("m", "c", "k", "a")
    ]
    text = said(run("accounts", "list", "--data-dir", "~nobody-of-that-name/d"))
    assert "--data-dir (or REFLEXIO_DATA_DIR)" in text
    assert "a user's home, which is not known" in text


@pytest.mark.sqlite
def test_a_relative_folder_is_the_one_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[..., LocalServer]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    server = start(Path("data"))
    monkeypatch.chdir(tmp_path / "elsewhere")  # as a daemon, or a library, may do
    server.data_dir = tmp_path / "data"
    caller = server.new_caller()
    caller.publish("user", "My parcel never arrived")
    wait_until(lambda: not caller.search(query="parcel").unindexed_count, "the vectors")
    assert caller.search(query="lost delivery").hits
    server.stop()
    assert os.listdir(tmp_path / "elsewhere") == []
    assert (tmp_path / "data" / DATABASE_FILE).exists()


def test_a_folder_that_is_gone_or_no_text_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is not UTF-8" in said(run("accounts", "list", "--data-dir", os.fsdecode(b"/tmp/\xff")))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "the current folder, which cannot be used" in said(run("accounts", "list", "--data-dir", "here"))


@pytest.mark.sqlite
def test_the_database_is_opened_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "d?cache=shared"
    folder.mkdir()
    Database(folder, owner=True).close()
    with sqlite3.connect(folder / DATABASE_FILE) as conn:
        assert conn.execute("SELECT count(*) FROM accounts").fetchone() == (0,)
    conn.close()
