"""`reflexio-server` as a person or a script uses it."""

import os
import pty
import re
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import platformdirs
import pytest
from click.testing import CliRunner, Result

from reflexio_server import lifecycle
from reflexio_server.cli.main import main
from reflexio_server.config import ENVIRONMENT_PREFIX, Settings
from reflexio_server.storage.database import DATABASE_FILE, own
from tests import canaries
from tests.support import PASSWORD, LocalServer, ServerProcess, log_in

ROOT = Path(__file__).parents[3]
EMAIL = "me@example.com"
COMMANDS = (
    (),
    ("serve",),
    ("health",),
    ("accounts",),
    ("accounts", "create"),
    ("accounts", "list"),
    ("accounts", "passwd"),
    ("accounts", "disable"),
    ("accounts", "enable"),
    ("keys",),
    ("keys", "list"),
    ("keys", "revoke"),
    ("index",),
    ("index", "status"),
    ("index", "rebuild"),
    ("index", "verify"),
    ("backup",),
    ("restore",),
    ("model",),
    ("model", "install"),
)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not the tests'."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)


def run(*arguments: str | Path, given: str = "", env: dict[str, str] | None = None) -> Result:
    """A command in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=given, env=env)
    canaries.look(result.output, "what a command said", "outputs")
    return result


def run_alone(
    *arguments: str | Path, given: str = "", env: dict[str, str] | None = None, umask: int = -1
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "reflexio_server", *(str(argument) for argument in arguments)]
    result = subprocess.run(
        command,
        input=given,
        env=os.environ | (env or {}),
        umask=umask,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    canaries.look(result.stdout + result.stderr, "what a command said", "outputs")
    return result


def create(data_dir: Path, email: str = EMAIL, password: str = PASSWORD) -> Result:
    return run("accounts", "create", email, "--data-dir", data_dir, given=password + "\n")


def said(result: Result | subprocess.CompletedProcess[str]) -> str:
    """What a command that failed said about it; a traceback is no answer."""
    if isinstance(result, Result):
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        code, text = result.exit_code, result.stderr
    else:
        code, text = result.returncode, result.stderr
    assert code in (1, 2), text
    assert "Traceback" not in text
    assert "Error: " in text
    return text.partition("Error: ")[2].strip()


# ---- Help


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command: tuple[str, ...]) -> None:
    for option in ("--help", "-h"):
        result = run(*command, option)
        assert result.exit_code == 0
        assert result.stdout.startswith(f"Usage: main {' '.join(command)}".rstrip())
        assert result.stderr == ""


def test_help_as_it_is_installed() -> None:
    script = Path(sys.executable).with_name("reflexio-server")
    result = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "Usage: reflexio-server [OPTIONS] COMMAND" in result.stdout
    assert all(command in result.stdout for command in ("serve", "accounts", "keys", "index", "model"))
    version = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"reflexio-server \d+\.\d+\.\d+\n", version.stdout)


def test_every_command_has_a_help_text_and_understands_data_dir() -> None:
    leaves = {" ".join(path): command for path, command in walk(main) if not isinstance(command, click.Group)}
    assert set(leaves) >= {"serve", "accounts create", "accounts list", "index rebuild", "model install"}
    for path, command in leaves.items():
        assert command.help, path
        if path == "health":  # it asks a server, and reads no data
            continue
        assert "--data-dir" in [name for option in command.params for name in option.opts], path


def walk(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from walk(command, *path, name)


def test_the_help_of_serve_lists_every_setting() -> None:
    text = " ".join(run("serve", "--help").stdout.split())
    for name, field in Settings.model_fields.items():
        assert flag(name) in text
        assert variable(name) in text
        assert field.description
        assert field.description.split()[0] in text
        if field.default_factory is None and field.default is not None:
            assert f"env: {variable(name)}; default: {field.default}]" in text


# ---- Accounts


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


class Terminal:
    """A command on a terminal of its own, which a person types into."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "reflexio_server", *(str(argument) for argument in arguments)]
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until this is shown, and forget all before it."""
        while text not in self.shown:
            try:
                read = os.read(self._terminal, 4096)
            except OSError:  # the end, on Linux
                read = b""
            assert read, f"{text!r} was not shown, but {self.shown!r}"
            self.shown += read.decode()
        before, _, self.shown = self.shown.partition(text)
        assert PASSWORD not in before

    def type(self, line: str) -> None:
        os.write(self._terminal, line.encode() + b"\n")

    def exit_code(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


def test_on_a_terminal_the_password_is_asked_for_twice_and_hidden(tmp_path: Path) -> None:
    terminal = Terminal("accounts", "create", EMAIL, "--data-dir", tmp_path)
    terminal.wait_for("Password:")
    terminal.type(PASSWORD)
    terminal.wait_for("Once more:")
    terminal.type("something else")
    terminal.wait_for("do not match")
    terminal.wait_for("Password:")
    terminal.type(PASSWORD)
    terminal.wait_for("Once more:")
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


# ---- What stands in the way of serving


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


# ---- Settings

# Of each setting a value that is wrong, and one that is not its default.
WRONG: dict[str, str] = {
    "port": "65536",
    "embedder": "gpt",
    "workers": "19",
    "max_streams": "0",
    "account_calls": "0",
    "account_streams": "0",
    "stream_idle_seconds": "0",
    "login_tries": "0",
    "login_tries_per_address": "0",
    "grace_seconds": "-1",
    "write_queue": "0",
    "freshness_seconds": "-0.5",
    "vector_cache_mb": "0",
    "log_level": "loud",
    "log_format": "xml",
    "metrics_port": "65536",
    "max_interactions": "0",
    "max_content_bytes": "0",
    "max_image_bytes": "0",
    "max_message_bytes": "1",
}
RIGHT: dict[str, tuple[str, Any]] = {
    "host": ("0.0.0.0", "0.0.0.0"),
    "port": ("1234", 1234),
    "tls_cert": ("some/cert.pem", Path("some/cert.pem").absolute()),
    "tls_key": ("some/key.pem", Path("some/key.pem").absolute()),
    "tls_client_ca": ("some/ca.pem", Path("some/ca.pem").absolute()),
    "insecure": ("true", True),
    "data_dir": ("some/data", Path("some/data").absolute()),
    "model_dir": ("some/models", Path("some/models").absolute()),
    "embedder": ("wordllama", "wordllama"),
    "workers": ("99", 99),
    "max_streams": ("7", 7),
    "account_calls": ("9", 9),
    "account_streams": ("3", 3),
    "stream_idle_seconds": ("1.5", 1.5),
    "login_tries": ("3", 3),
    "login_tries_per_address": ("25", 25),
    "grace_seconds": ("0", 0.0),
    "write_queue": ("77", 77),
    "freshness_seconds": ("0.25", 0.25),
    "vector_cache_mb": ("64", 64),
    "reflection": ("true", True),
    "indexing": ("false", False),
    "log_level": ("warning", "warning"),
    "log_format": ("json", "json"),
    "metrics_port": ("9464", 9464),
    "metrics_host": ("::1", "::1"),
    "max_interactions": ("5", 5),
    "max_content_bytes": ("1000", 1000),
    "max_image_bytes": ("2000", 2000),
    "max_message_bytes": ("100000", 100_000),
}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that `serve` would have started a server with."""
    taken: list[Settings] = []
    monkeypatch.setattr(lifecycle, "serve", taken.append)
    return taken


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_names_flag_and_variable(served: list[Settings], name: str) -> None:
    by_flag = said(run("serve", flag(name), WRONG[name]))
    by_variable = said(run("serve", env={variable(name): WRONG[name]}))
    for text in (by_flag, by_variable):
        assert f"{flag(name)} (or {variable(name)}): " in text
    assert served == []


@pytest.mark.parametrize(("name", "value"), [("port", "http"), ("grace_seconds", "soon"), ("workers", "1.5")])
def test_a_value_that_is_no_number_is_refused(served: list[Settings], name: str, value: str) -> None:
    assert flag(name) in said(run("serve", flag(name), value))
    assert f"{flag(name)} (or {variable(name)}): " in said(run("serve", env={variable(name): value}))
    assert f"{variable('reflection')}): " in said(run("serve", env={variable("reflection"): "perhaps"}))
    assert served == []


def test_several_wrong_values_are_said_together(served: list[Settings]) -> None:
    text = said(run("serve", "--port", "-1", env={"REFLEXIO_WORKERS": "3"}))
    assert "--port" in text
    assert "--workers" in text
    text = said(run("serve", "--max-image-bytes", "20000000"))
    assert "max_image_bytes must be smaller than max_message_bytes" in text


SWITCHES = {"reflection": "--reflection", "insecure": "--insecure", "indexing": "--no-indexing"}  # as RIGHT has them


def test_the_lists_above_have_every_setting() -> None:
    assert set(RIGHT) == set(Settings.model_fields)
    free = {"host", "metrics_host", "data_dir", "model_dir", "tls_cert", "tls_key", "tls_client_ca", *SWITCHES}
    assert set(WRONG) == set(Settings.model_fields) - free


def test_every_setting_is_a_flag_and_a_variable(served: list[Settings]) -> None:
    by_variable = {variable(name): value for name, (value, _) in RIGHT.items()}
    flags: list[str] = []
    for name, (value, _) in RIGHT.items():
        flags += [SWITCHES[name]] if name in SWITCHES else [flag(name), value]
    assert run("serve", env=by_variable).exit_code == 0
    assert run("serve", *flags).exit_code == 0
    assert run("serve").exit_code == 0
    expected = {name: value for name, (_, value) in RIGHT.items()}
    assert [served[0].model_dump(), served[1].model_dump()] == [expected, expected]
    defaults = served[2].model_dump()
    assert [name for name in RIGHT if defaults[name] == expected[name]] == []
    assert defaults["data_dir"] == platformdirs.user_data_path("reflexio")
    assert defaults["model_dir"] == platformdirs.user_cache_path("reflexio") / "models"


def test_a_flag_is_stronger_than_a_variable_and_an_empty_variable_is_none(served: list[Settings]) -> None:
    env = {"REFLEXIO_PORT": "1", "REFLEXIO_REFLECTION": "true", "REFLEXIO_DATA_DIR": "", "REFLEXIO_WORKERS": ""}
    assert run("serve", "--port", "2", "--no-reflection", env=env).exit_code == 0
    (settings,) = served
    assert (settings.port, settings.reflection, settings.workers) == (2, False, 128)
    assert settings.data_dir == platformdirs.user_data_path("reflexio")


def test_data_dir_by_environment_in_every_command(tmp_path: Path) -> None:
    env = {"REFLEXIO_DATA_DIR": str(tmp_path)}
    assert run("accounts", "create", EMAIL, given=PASSWORD, env=env).exit_code == 0
    assert EMAIL in run("accounts", "list", env=env).stdout
    assert EMAIL in run("accounts", "list", "--data-dir", tmp_path, env={"REFLEXIO_DATA_DIR": "elsewhere"}).stdout


def test_the_installed_model_is_found_with_a_data_dir_given(tmp_path: Path, model_dir: Path) -> None:
    arguments = ("model", "install", "--quiet-if-present", "--model-dir", model_dir, "--data-dir", tmp_path)
    result = run(*arguments)
    assert (result.exit_code, result.output) == (0, "")


def test_the_readme_has_every_setting_in_its_table() -> None:
    table: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        found = re.match(r"`(--[a-z-]+)[ `/]", cells[0])
        if line.startswith("|") and found and len(cells) >= 3:
            assert found[1] not in table, "twice"
            table[found[1]] = (cells[1], cells[2].strip("`"))
    assert set(table) == {flag(name) for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        shown, default = table[flag(name)]
        assert shown == f"`{variable(name)}`"
        if field.default_factory is None and field.default is not None:
            assert default.replace(",", "") == str(field.default)
        else:
            assert default, "in words"


# ---- Files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


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
