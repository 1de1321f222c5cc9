"""docs/python.md: every example is run, twice in one account, and prints what the manual says."""

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

import reflexio
from tests.support import PASSWORD, Caller, LocalServer

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
EMAIL = "me@example.com"
BLOCK = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n)?```python\n(?P<code>.*?)^```\n(?:```text\n(?P<said>.*?)^```\n)?", re.M | re.S
)
START_SECONDS = 60.0


def blocks() -> Iterator[tuple[int, str | None, str, str]]:
    text = PAGE.read_text()
    for found in BLOCK.finditer(text):
        yield text[: found.start("code")].count("\n"), found["file"], found["code"], found["said"] or ""


@pytest.fixture(scope="module")
def account(server: LocalServer) -> Caller:
    return server.new_caller()


@pytest.fixture
def _environment(account: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLEXIO_API_URL", f"http://{account.address}/")
    monkeypatch.setenv("REFLEXIO_API_KEY", account.api_key)


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("time", ["first", "second"])
def test_the_examples_print_what_the_manual_says(time: str, account: Caller) -> None:
    lines: list[str] = []
    names: dict[str, Any] = {"print": lambda *values: lines.append(" ".join(map(str, values)))}
    for number, file, code, said in blocks():
        if file is None:
            lines.clear()
            mine = code.replace(EMAIL, account.email).replace('"my password"', repr(PASSWORD))
            exec(compile("\n" * number + mine, str(PAGE), "exec"), names)
            assert lines == said.replace(EMAIL, account.email).splitlines(), f"line {number} of the manual"
    assert len(lines) == 0


def test_the_manual_has_every_method_and_every_error() -> None:
    text = PAGE.read_text()
    methods = {name for name in dir(reflexio.ReflexioClient) if not name.startswith("_")} - {"api_key"}
    errors = {name for name in reflexio.__all__ if name.endswith("Error")}
    assert not [name for name in methods | errors if f"{name}" not in text]
    called = "".join(code for _, _, code, _ in blocks())
    assert not [name for name in methods if f".{name}(" not in called]
    fields = {field for field in reflexio.InteractionData.__dataclass_fields__}
    assert not [field for field in fields if f"| `{field}` |" not in text]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The examples that are files, written to a folder."""
    found = {}
    for _, file, code, _ in blocks():
        if file is not None:
            found[file] = tmp_path / file
            found[file].write_text(code)
    return found


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def contents(account: Caller, **wanted: Any) -> list[str]:
    found = account.get(**wanted).interactions
    return [interaction.content or interaction.user_action_description for interaction in found]


def until(account: Caller, text: str, **wanted: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while text not in contents(account, **wanted):
        assert time.monotonic() < end, f"{text} did not arrive"
        time.sleep(0.1)


@pytest.mark.usefixtures("_environment")
def test_fastapi(files: dict[str, Path], account: Caller) -> None:
    with TestClient(load(files["with_fastapi.py"]).app) as web:
        answers = [web.post("/chat/fay", params={"text": "I like the sea"}).json()["answer"] for _ in range(2)]
    assert answers == [f"You said {count} things like this before." for count in (0, 2)]
    until(account, answers[1], user_id="fay")


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize("more", [[], ["--preload"]])
def test_gunicorn(files: dict[str, Path], account: Caller, more: list[str]) -> None:
    folder = files["with_gunicorn.py"].parent
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-w", "2", "-b", f"127.0.0.1:{port}", *more, "with_gunicorn:app"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            end = time.monotonic() + START_SECONDS
            paths = [f"/page-{len(more)}-{number}" for number in range(6)]
            for path in paths:
                while True:
                    try:
                        assert httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).text == "noted"
                        break
                    except httpx.TransportError:
                        assert time.monotonic() < end, "gunicorn did not start"
                        time.sleep(0.1)
            for path in paths:
                until(account, path, user_id="ada")
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.mark.usefixtures("_environment")
def test_celery(files: dict[str, Path], account: Caller, tmp_path: Path) -> None:
    """A real worker that forks, over a broker of files."""
    queue = tmp_path / "queue"
    queue.mkdir()
    settings = f"""
broker_url = "filesystem://"
broker_transport_options = {{"data_folder_in": {str(queue)!r}, "data_folder_out": {str(queue)!r}}}
"""
    (tmp_path / "celeryconfig.py").write_text(settings)
    environment = os.environ | {"CELERY_CONFIG_MODULE": "celeryconfig"}
    send = (
        "from with_celery import app, remember; app.config_from_object('celeryconfig'); "
        "[remember.delay('cem', f'task {i}') for i in range(4)]"
    )
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environment, check=True, timeout=60)
    options = ["worker", "-c", "2", "-l", "WARNING", "--without-gossip", "--without-mingle"]
    starts = f"from with_celery import app; app.config_from_object('celeryconfig'); app.worker_main({options})"
    with subprocess.Popen([sys.executable, "-c", starts], cwd=tmp_path, env=environment) as process:
        try:
            for number in range(4):
                until(account, f"task {number}", user_id="cem")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@pytest.mark.usefixtures("_environment")
def test_lambda(files: dict[str, Path], account: Caller, tmp_path: Path) -> None:
    code = files["with_lambda.py"].read_text()
    files["with_lambda.py"].write_text(code.replace("/tmp/reflexio", str(tmp_path / "spool of a lambda")))
    module = load(files["with_lambda.py"])
    for number in range(2):
        assert module.handler({"user": "lea", "text": f"call {number}"}, None) == {"delivered": True}
    assert sorted(contents(account, user_id="lea")) == ["call 0", "call 1"]
    module.client.close()
