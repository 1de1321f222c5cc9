"""N6 and F13 (the server's side): every command runs without a home, a passwd entry, or a root that can be written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import PASSWORD, ServerProcess, create_account, log_in
from tests.wire import wait_until

EMAIL = "me@example.com"
Runner = Callable[..., subprocess.CompletedProcess[str]]
_AS_NOBODY = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
# A root that can only be read, but for one folder; then a user that nobody knows.
_READ_ONLY = 'mount --bind {folder} {folder} && mount -o remount,bind,ro / && shift && exec {nobody} "$@"'


def _command(folder: Path, *, read_only: bool) -> list[str]:
    if not read_only:
        return _AS_NOBODY
    script = _READ_ONLY.format(folder=folder, nobody=" ".join(_AS_NOBODY))
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh", "-"]


def _allowed(under: list[str]) -> list[str]:
    if shutil.which("unshare") is None or subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let users make namespaces")
    return under


@pytest.fixture
def bare(tmp_path: Path) -> Runner:
    """Runs `reflexio-server` as a user that is in no list, with nothing in the environment and a read-only root."""
    under = _allowed(_command(tmp_path, read_only=True))

    def run(*arguments: str, given: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        command = [*under, sys.executable, "-m", "reflexio_server.cli", *arguments]
        variables = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1", **env}
        return subprocess.run(
            command, env=variables, cwd="/", input=given, text=True, capture_output=True, timeout=120, check=False
        )

    return run


def test_every_command_runs(bare: Runner, tmp_path: Path, model_dir: Path) -> None:
    at = ("--data-dir", str(tmp_path / "data"))
    commands: list[tuple[tuple[str, ...], str]] = [
        (("accounts", "create", EMAIL), PASSWORD),
        (("accounts", "list"), ""),
        (("accounts", "passwd", EMAIL), PASSWORD),
        (("keys", "revoke", EMAIL, "--all", "--yes"), ""),
        (("index", "rebuild"), ""),
        (("model", "install", "--model-dir", str(model_dir)), ""),
    ]
    for command, given in commands:
        done = bare(*command, *at, given=given)
        assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("read_only", [False, True], ids=["no home", "read-only root"])
def test_a_server_runs(tmp_path: Path, model_dir: Path, read_only: bool) -> None:
    under = _allowed(_command(tmp_path, read_only=read_only))
    create_account(tmp_path / "data", EMAIL)
    for number in range(2):
        server = ServerProcess(tmp_path / "data", model_dir, under=under, env={"PATH": os.environ["PATH"]})
        try:
            caller = log_in(server.address, EMAIL)
            caller.publish("user", "My parcel never arrived")
            wait_until(lambda: not caller.search(query="parcel").unindexed_count, "the vectors")  # noqa: B023
            assert caller.search(query="lost delivery").hits
            if number:  # the first was killed, so a child looks through the index
                wait_until(lambda: "the Chroma index is in order" in "".join(server.lines), "the child's check")  # noqa: B023
        finally:
            server.kill()
    assert "Traceback" not in "".join(server.lines)


def test_a_folder_that_would_be_at_home_is_asked_for(bare: Runner, tmp_path: Path) -> None:
    for command in (("accounts", "list"), ("accounts", "create", EMAIL)):
        done = bare(*command, given=PASSWORD)
        assert done.returncode == 2
        assert "give --data-dir (or REFLEXIO_DATA_DIR): there is no home folder" in done.stderr
        assert "Traceback" not in done.stderr
    done = bare("serve", "--data-dir", str(tmp_path))
    assert "give --model-dir (or REFLEXIO_MODEL_DIR): there is no home folder" in done.stderr
    assert "there is none: give a full path" in bare("accounts", "list", REFLEXIO_DATA_DIR="~/d").stderr
    data_home = bare("accounts", "create", EMAIL, given=PASSWORD, XDG_DATA_HOME=str(tmp_path / "xdg"))
    assert data_home.returncode == 0, data_home.stderr
    assert (tmp_path / "xdg" / "reflexio" / "reflexio.db").exists()


def test_a_home_that_cannot_be_written_is_said(bare: Runner, tmp_path: Path) -> None:
    for home in ("/proc/nowhere", "/dev/null"):
        done = bare("accounts", "create", EMAIL, given=PASSWORD, HOME=home)
        assert done.returncode == 1
        assert re.match(rf"Error: cannot use {home}\S*: .*; check --data-dir and --model-dir\n$", done.stderr)
