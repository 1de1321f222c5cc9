"""`reflexio-server accounts create` and `list`."""

import re
from pathlib import Path

import pytest

from reflexio_server.storage.database import DATABASE_FILE
from tests.command import EMAIL, Terminal, create, run, run_alone, said
from tests.support import PASSWORD, LocalServer, log_in


def test_an_account_is_made_from_standard_input(tmp_path: Path) -> None:
    data_dir = tmp_path / "made" / "on the way"
    result = run_alone("accounts", "create", " Me@Example.COM ", "--data-dir", data_dir, given=f"{PASSWORD}\n")
    assert result.returncode == 0
    assert re.fullmatch(r"\S+ \S+ INFO reflexio.audit: account created account=[a-z0-9]{10}\n", result.stderr)
    assert result.stdout == f"Made the account {EMAIL} in {data_dir}.\n"
    listed = run("accounts", "list", "--data-dir", data_dir)
    assert re.fullmatch(EMAIL + r"\t[a-z0-9]{10}\tmade \d{4}-\d\d-\d\d\t0 interactions\n", listed.stdout)


@pytest.mark.parametrize("given", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\n", f"{PASSWORD}\nanother line\n"])
def test_the_first_line_of_standard_input_is_the_password(tmp_path: Path, model_dir: Path, given: str) -> None:
    assert run("accounts", "create", EMAIL, "--data-dir", tmp_path, given=given).exit_code == 0
    server = LocalServer(tmp_path, model_dir)
    try:
        assert log_in(server.address, EMAIL).api_key
    finally:
        server.stop()


def test_on_a_terminal_the_password_is_asked_for_twice_and_hidden(tmp_path: Path) -> None:
    terminal = Terminal("accounts", "create", EMAIL, "--data-dir", tmp_path)
    terminal.wait_for("Password: ")
    terminal.type(PASSWORD)
    terminal.wait_for("Once more: ")
    terminal.type("something else")
    terminal.wait_for("do not match")
    terminal.wait_for("Password: ")
    terminal.type(PASSWORD)
    terminal.wait_for("Once more: ")
    terminal.type(PASSWORD)
    terminal.wait_for(f"Made the account {EMAIL}")
    assert terminal.exit_code() == 0
    assert said(create(tmp_path)) == f"there is an account for {EMAIL} already"


def test_an_email_has_one_account(tmp_path: Path, model_dir: Path) -> None:
    assert create(tmp_path).exit_code == 0
    for email in (EMAIL, EMAIL.upper(), f"  {EMAIL} "):
        assert said(create(tmp_path, email, "another password")) == f"there is an account for {EMAIL} already"
    assert len(run("accounts", "list", "--data-dir", tmp_path).stdout.splitlines()) == 1
    server = LocalServer(tmp_path, model_dir)
    try:
        assert log_in(server.address, EMAIL).api_key, "the first password is the one"
    finally:
        server.stop()


@pytest.mark.parametrize("email", ["me", "me@", "@example.com", "a b@example.com", "a@b@c", "", "x" * 320 + "@y.z"])
def test_a_bad_email_is_refused(tmp_path: Path, email: str) -> None:
    assert said(create(tmp_path, email)).startswith("email: must look like name@example.com")
    assert not (tmp_path / DATABASE_FILE).exists()


@pytest.mark.parametrize("password", ["", "seven77", "x" * 1025])
def test_a_bad_password_is_refused(tmp_path: Path, password: str) -> None:
    assert said(create(tmp_path, password=password)) == "password: must have 8 to 1024 bytes"
    assert not (tmp_path / DATABASE_FILE).exists()


def test_no_input_at_all_is_no_password(tmp_path: Path) -> None:
    result = run_alone("accounts", "create", EMAIL, "--data-dir", tmp_path)
    assert said(result) == "password: must have 8 to 1024 bytes"


def test_accounts_are_made_and_listed_beside_a_running_server(tmp_path: Path, model_dir: Path) -> None:
    server = LocalServer(tmp_path, model_dir)
    try:
        empty = run("accounts", "list", "--data-dir", tmp_path)
        assert (empty.exit_code, empty.stdout) == (0, "")
        assert "There is no account yet" in empty.stderr
        first = run_alone("accounts", "create", EMAIL, "--data-dir", tmp_path, given=PASSWORD)
        assert first.returncode == 0, first.stderr
        log_in(server.address, EMAIL).publish("user", "one", "two", "three")
        assert create(tmp_path, "other@example.com").exit_code == 0
        beside = run("accounts", "list", "--data-dir", tmp_path)
    finally:
        server.stop()
    alone = run("accounts", "list", "--data-dir", tmp_path)
    assert beside.stdout == alone.stdout
    rows = [line.split("\t") for line in alone.stdout.splitlines()]
    assert [(row[0], row[3]) for row in rows] == [(EMAIL, "3 interactions"), ("other@example.com", "0 interactions")]


def test_a_list_makes_no_database(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert said(run("accounts", "list", "--data-dir", missing)) == (
        f"there is no database in {missing}: check --data-dir"
    )
    assert not missing.exists()
