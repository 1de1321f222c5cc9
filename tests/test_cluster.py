"""`scripts/cluster`: what is published at one server is found at the other, and at the end nothing is left."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest

import reflexio
from tools import postgres_run
from tools.run_cluster import EMAIL
from tools.server_process import PASSWORD

TREE = Path(__file__).parents[1]
SECONDS = 240.0
pytestmark = [
    pytest.mark.sqlite,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not postgres_run.binaries() and "REFLEXIO_TEST_ALL" not in os.environ, reason="there is no PostgreSQL"
    ),
]


# Where the tests run in the background, SIGINT is ignored, and by what they start.
_RUN = """import runpy, signal
signal.signal(signal.SIGINT, signal.default_int_handler)
runpy.run_module("tools.run_cluster", run_name="__main__", alter_sys=True)"""


class Started:
    """The script in a session of its own, as a terminal has it, and the lines that it writes."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _RUN, "--port", "0", *arguments],
            cwd=TREE,
            env={**os.environ, "COLUMNS": "500", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""
        self._lines: Queue[str | None] = Queue()
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, pattern: str) -> re.Match[str]:
        """Wait for a line that has it."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.said)):
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except Empty:
                line = None
            assert line is not None, self.said
            self.said += line
        return found

    def interrupt(self) -> int:
        """As Ctrl-C does: every process of the terminal's is told. The exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.until("Everything is stopped and removed")
        return self.process.wait(SECONDS)

    @property
    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"pid (\d+)", self.said)]


@contextmanager
def started(*arguments: str) -> Iterator[Started]:
    script = Started(*arguments)
    try:
        yield script
    finally:
        if script.process.poll() is None:
            script.process.terminate()  # which ends what it started
            script.process.wait(SECONDS)


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_one_stores_the_other_finds_and_nothing_is_left() -> None:
    with started() as script:
        script.until("Ctrl-C ends it")
        first, second = re.findall(r"server-\d: (http://\S+) ", script.said)
        folder = re.search(r"host=(\S+)", script.said)
        assert folder
        assert Path(folder[1]).exists()
        pids = script.pids
        assert len(pids) == 5
        assert all(map(lives, pids))
        for at, other, what in ((first, second, "a parcel"), (second, first, "a lost key")):
            with reflexio.ReflexioClient(url_endpoint=at) as client:
                client.login(EMAIL, PASSWORD)
                client.publish_interaction("ada", [{"content": what}], wait_for_response=True)
            with reflexio.ReflexioClient(url_endpoint=other) as client:
                client.login(EMAIL, PASSWORD)
                found = client.search_interactions(user_id="ada", query=what, top_k=1)
                assert [hit.interaction.content for hit in found.hits] == [what]
        os.kill(pids[2], signal.SIGKILL)  # that of the first server
        script.until("server-0 has ended")
        assert script.process.poll() is None
        with reflexio.ReflexioClient(url_endpoint=second) as client:
            client.login(EMAIL, PASSWORD)
            assert len(client.get_interactions(user_id="ada").interactions) == 2
        assert script.interrupt() == 0
        assert not any(map(lives, pids))
        assert not Path(folder[1]).exists()


def test_the_demo_runs_on_it() -> None:
    with started("--demo") as script:
        script.until("Everything is stopped and removed")
        assert script.process.wait(SECONDS) == 0
        assert "Found by meaning" in script.said
        assert not any(map(lives, script.pids))
