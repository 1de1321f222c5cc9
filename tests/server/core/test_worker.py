"""`reflexio-server worker`: what servers do behind the calls, by a process that takes none."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests import stores
from tests.command import account_on, run, said
from tests.support import LocalServer, log_in
from tests.wire import wait_until
from tools.chroma_run import ChromaRun

pytestmark = pytest.mark.sqlite  # each test has a database of its own


@pytest.fixture
def url(databases: stores.Databases, tmp_path: Path) -> str:
    return databases.of(tmp_path / "of the test")


class Worker:
    """A worker in a process of its own; its log is in a file."""

    def __init__(self, url: str, data_dir: Path, model_dir: Path, *arguments: str) -> None:
        self._log = data_dir.with_name(f"{data_dir.name}.log")
        where = ("--data-dir", data_dir, "--model-dir", model_dir, "--embedder", "minilm-int8")
        command = [sys.executable, "-m", "reflexio_server", "worker", *map(str, where), *arguments]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, "REFLEXIO_DATABASE_URL": url})

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def wait_for(self, text: str) -> str:
        """The line that has it."""
        wait_until(lambda: any(text in line for line in self.lines), text)
        return next(line for line in self.lines if text in line)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def working(url: str, data_dir: Path, model_dir: Path, *arguments: str) -> Iterator[Worker]:
    """A worker that does not outlive the block."""
    worker = Worker(url, data_dir, model_dir, *arguments)
    try:
        worker.wait_for("works on")
        yield worker
    finally:
        worker.process.kill()
        worker.process.wait(30)


def count(url: str, table: str) -> int:
    with psycopg.connect(url) as conn:
        (row,) = conn.execute(f"SELECT count(*) FROM {table}").fetchall()
        return int(row[0])


def test_a_worker_embeds_and_leads_where_no_server_does(
    url: str, tmp_path: Path, model_dir: Path, start: Callable[..., LocalServer]
) -> None:
    email = account_on(url, tmp_path / "elsewhere")
    server = start(database_url=url, indexing=False, embedder="minilm-int8")
    caller = log_in(server.address, email)
    for number in range(5):
        caller.publish("u", f"a boat on the lake {number}")
    server.stop()
    assert count(url, "vectors") == 0
    with (
        ChromaRun(tmp_path / "chroma") as chroma,
        working(url, tmp_path / "one", model_dir, "--metrics-port", "0", "--chroma-url", chroma.url) as worker,
    ):
        wait_until(lambda: count(url, "vectors") == 5, "it to embed")
        worker.wait_for("this process leads")
        address = worker.wait_for("metrics on").split("metrics on ")[1]
        with urllib.request.urlopen(address, timeout=10) as answer:
            assert "reflexio_leader 1.0" in answer.read().decode()
        assert listening(worker.process.pid) == 1, "for metrics alone"
        verified = run(*("index", "verify", "--data-dir", tmp_path / "elsewhere"), env={"REFLEXIO_DATABASE_URL": url})
        assert "compared one by one" in verified.stdout, verified.stderr
        server = start(database_url=url, indexing=False, embedder="minilm-int8")
        log_in(server.address, email).publish("u", "a train to the city")
        wait_until(lambda: count(url, "vectors") == 6, "it to embed what a server takes meanwhile")
        assert worker.terminate() == 0
        assert worker.wait_for("stopped")


def listening(pid: int) -> int:
    """How many sockets of a process wait for connections."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(file))
        except OSError:
            continue
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return sum(line[3] == "0A" and f"socket:[{line[9]}]" in inodes for line in lines)


def test_a_worker_does_not_lead_without_an_index_that_others_can_ask(url: str, tmp_path: Path, model_dir: Path) -> None:
    with working(url, tmp_path / "one", model_dir) as worker:
        worker.wait_for("it does not lead")
        assert listening(worker.process.pid) == 0
        assert worker.terminate() == 0
    assert not any("this process leads" in line for line in worker.lines)


def test_with_sqlite_a_worker_is_refused(tmp_path: Path) -> None:
    answer = run("worker", "--data-dir", tmp_path / "data")
    assert answer.exit_code == 2
    assert "--database-url" in said(answer)
    assert "the server does all of this itself" in said(answer)
    assert not (tmp_path / "data").exists()
    assert "worker" in run("--help").stdout


def test_a_worker_takes_no_port() -> None:
    answer = run("worker", "--port", "0")
    assert answer.exit_code == 2
    assert "No such option" in said(answer)
