"""`reflexio-server` says what it can do."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from reflexio_server.cli.main import main
from tests.command import run

COMMANDS = (
    (),
    ("serve",),
    ("worker",),
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
    ("import-store",),
    ("migrate",),
    ("model",),
    ("model", "install"),
    ("model", "use"),
)


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
