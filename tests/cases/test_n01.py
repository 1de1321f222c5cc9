"""N1: no process of the server's calls anybody, asks for a name, or makes a file outside of its folders."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflexio_server.process import before_imports
from tests.support import ServerProcess, log_in
from tests.wire import wait_until

ROOT = Path(__file__).parents[2]
REPORTING = ("chromadb", "chromadb_rust_bindings", "huggingface_hub", "onnx", "onnxruntime", "tokenizers")
# What a system call names: an address beyond this machine, or whoever tells addresses.
_CALLS_OUT = re.compile(
    r"sin_port=htons\(53\)|sin6_port=htons\(53\)|nscd|systemd/resolve|sin_addr=inet_addr\(\"(?!127\.)"
)
_CALLS_OUT_6 = re.compile(r'inet_pton\(AF_INET6, "(?!::1"|::"|::ffff:127\.)')


@pytest.fixture
def traced(tmp_path: Path) -> tuple[list[str], dict[str, str], Path, Path]:
    """A tracer's command line, an environment with a home of its own, that home, and where the traces are."""
    if shutil.which("strace") is None:
        why = "strace, which shows a process's system calls, is not installed (apt-get install strace)"
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    home, traces = tmp_path / "home", tmp_path / "traces"
    home.mkdir()
    traces.mkdir()
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "VIRTUAL_ENV")}
    env = kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    # -D: the tracer is the grandchild, and what it traces stays the child of who starts it.
    command = ["strace", "-D", "-f", "-ff", "--seccomp-bpf", "-qq", "-s", "0"]
    return [*command, "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(traces / "of")], env, home, traces


def _found(traces: Path) -> list[str]:
    return [
        line
        for file in sorted(traces.iterdir())
        for line in file.read_text(errors="replace").splitlines()
        if _CALLS_OUT.search(line) or _CALLS_OUT_6.search(line)
    ]


def test_the_tracer_sees_a_look_up_and_a_call(traced: tuple[list[str], dict[str, str], Path, Path]) -> None:
    """Else the test below would find nothing whatever happened."""
    under, env, _, traces = traced
    code = """if True:
        import socket
        try: socket.getaddrinfo("mobile.events.data.example", 443)
        except OSError: pass
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one: one.connect_ex(("192.0.2.1", 9))
    """
    subprocess.run([*under, sys.executable, "-c", code], env=env, check=True, timeout=60)
    wait_until(lambda: [line for line in _found(traces) if "192.0.2.1" in line], "the call in the trace", 10)
    assert [line for line in _found(traces) if "htons(53)" in line]


@pytest.mark.sqlite  # PostgreSQL's library asks the system who the user is
def test_install_serve_search_and_check_call_nobody(
    traced: tuple[list[str], dict[str, str], Path, Path], tmp_path: Path
) -> None:
    under, env, home, traces = traced
    data_dir, model_dir = tmp_path / "data", tmp_path / "models"
    cli = [*under, sys.executable, "-m", "reflexio_server"]

    def run(*arguments: str, given: str = "") -> None:
        done = subprocess.run([*cli, *arguments], env=env, input=given, text=True, capture_output=True, timeout=170)
        assert done.returncode == 0, done.stderr

    run("model", "install", "--model-dir", str(model_dir))
    run("accounts", "create", "a@example.com", "--data-dir", str(data_dir), given="a long password")
    for start in ("first", "second"):
        server = ServerProcess(data_dir, model_dir, under=under, env=env)
        try:
            caller = log_in(server.address, "a@example.com", "a long password")
            caller.publish("user", *(f"{start} parcel {number} never arrived" for number in range(30)))
            wait_until(lambda: not caller.search(query="parcel").unindexed_count, "the vectors")  # noqa: B023
            assert caller.search(query="lost delivery").hits
            assert caller.search(user_id="user", query="lost delivery").hits
            wait_until(lambda: list(data_dir.glob("chroma/*/chroma.sqlite3")), "the index's folder to be open")
            if start == "second":  # the first was killed, so a child looks through the index
                wait_until(lambda: "the Chroma index is in order" in "".join(server.lines), "the child's check")  # noqa: B023
        finally:
            server.kill()
    assert len(list(traces.iterdir())) > 20, "the threads and children were traced"
    assert _found(traces) == []
    assert list(home.rglob("*")) == [], "a library made files of its own"


def test_whoever_imports_such_a_library_imported_the_package_before() -> None:
    """`reflexio_server` sets the variables at its import, whatever of it is imported first.

    For tests conftest.py does, before any of them is imported.
    """
    assert "before_imports()" in (ROOT / "reflexio_server" / "__init__.py").read_text()
    wrong = []
    conftest = ast.parse((ROOT / "tests" / "conftest.py").read_text())
    assert any(name.startswith("reflexio_server") for node in conftest.body for name in _imported(node))
    for folder in ("reflexio_client", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            top = [name for node in tree.body for name in _imported(node)]
            inside = {name for node in ast.walk(tree) for name in _imported(node)}
            if not any(name.split(".")[0] in REPORTING for name in inside):
                continue
            first = next((name for name in top if name.split(".")[0] in (*REPORTING, "reflexio_server")), "")
            if not first.startswith("reflexio_server"):
                wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module


def test_the_variables_are_set_over_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, wanted in (("ORT_DISABLE_TELEMETRY", "1"), ("ANONYMIZED_TELEMETRY", "False"), ("HF_HUB_OFFLINE", "1")):
        monkeypatch.setenv(name, "0" if wanted == "1" else "True")
        before_imports()
        assert os.environ[name] == wanted


def test_the_environment_does_not_send_the_index_elsewhere(tmp_path: Path) -> None:
    """The package of Chroma takes its own variables, and a `.env` of the folder it is started in: it is left out."""
    (tmp_path / ".env").write_text("CHROMA_OTEL_GRANULARITY=all\nANONYMIZED_TELEMETRY=True\n")
    code = """if True:
        from pathlib import Path
        import sys
        from reflexio_server.index.chroma import ChromaIndex
        index = ChromaIndex(Path("chroma/1").absolute())
        index.upsert("collection-1", [1], [1], [[0.5, 0.5]])
        print(type(index._client).__name__, index.stamps("collection-1"), "chromadb" in sys.modules)
    """
    env = os.environ | {"CHROMA_API_IMPL": "chromadb.api.fastapi.FastAPI", "CHROMA_SERVER_HOST": "192.0.2.1"}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, text=True, capture_output=True, timeout=60
    )
    assert said.stdout.split() == ["Bindings", "[1]", "False"], said.stderr
    assert (tmp_path / "chroma/1/chroma.sqlite3").exists()
