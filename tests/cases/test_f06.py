"""F6: variables that Kubernetes makes of a Service are no settings, and each command reads only its own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reflexio_server import lifecycle
from reflexio_server.config import Settings, service_variables
from tests.command import EMAIL, create, run, said
from tests.support import PASSWORD, LocalServer, ServerProcess

A_SERVICE = {
    "REFLEXIO_PORT": "tcp://10.43.0.1:8081",
    "REFLEXIO_PORT_8081_TCP": "tcp://10.43.0.1:8081",
    "REFLEXIO_PORT_8081_TCP_PORT": "8081",
    "REFLEXIO_SERVICE_HOST": "10.43.0.1",
    "REFLEXIO_SERVICE_PORT": "8081",
    "REFLEXIO_METRICS_PORT": "UDP://10.43.0.2:9464",
    "REFLEXIO_METRICS_SERVICE_HOST": "10.43.0.2",
}


@pytest.fixture
def in_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in A_SERVICE.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_a_pod")
def test_serve_takes_its_defaults_and_says_so(tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Settings] = []
    monkeypatch.setattr(lifecycle, "serve", taken.append)
    assert run("serve").exit_code == 0
    assert (taken[0].port, taken[0].metrics_port) == (8081, None)
    assert run("serve", "--port", "99").exit_code == 0
    assert taken[1].port == 99
    monkeypatch.undo()
    assert service_variables() == []


@pytest.mark.usefixtures("in_a_pod")
def test_the_log_says_what_was_ignored(tmp_path: Path, model_dir: Path) -> None:
    server = ServerProcess(tmp_path, model_dir, "--log-format", "json")
    try:
        said = [json.loads(line)["message"] for line in server.lines]
        assert [one.split(":")[0] for one in said if "Kubernetes" in one] == [
            f"ignored the variable {name}" for name in ("REFLEXIO_METRICS_PORT", "REFLEXIO_PORT")
        ]
    finally:
        server.kill()


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("accounts", "list"),
    ("accounts", "passwd", EMAIL),
    ("accounts", "disable", EMAIL),
    ("accounts", "enable", EMAIL),
    ("keys", "list", EMAIL),
    ("keys", "revoke", EMAIL, "--all", "--yes"),
    ("index", "status"),
)


def test_commands_run_in_a_pod_and_beside_settings_that_are_wrong(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = A_SERVICE | {
        "REFLEXIO_WORKERS": "many",
        "REFLEXIO_TLS_CERT": "alone.pem",
        "REFLEXIO_MAX_MESSAGE_BYTES": "1",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    assert create(tmp_path).exit_code == 0
    for command in COMMANDS:
        result = run(*command, "--data-dir", tmp_path, given=PASSWORD)
        assert result.exit_code == 0, (command, result.output)
    installed = run("model", "install", "--model-dir", model_dir, "--data-dir", tmp_path)
    assert installed.exit_code == 0, installed.output


def test_a_wrong_value_of_a_commands_own_setting_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFLEXIO_WORKERS", "many")
    assert "--workers (or REFLEXIO_WORKERS)" in said(run("serve", "--data-dir", tmp_path))
    monkeypatch.setenv("REFLEXIO_PORT", "80 81")
    assert "--port (or REFLEXIO_PORT)" in said(run("serve", "--workers", "30", "--data-dir", tmp_path))


def test_settings_made_in_a_program_are_the_same(start: Callable[..., LocalServer], in_a_pod: Any) -> None:
    assert Settings(port=0).metrics_port is None
    assert start().address
