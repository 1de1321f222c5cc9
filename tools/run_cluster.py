"""`scripts/cluster`: PostgreSQL, a Chroma server, two servers and a worker that share both, until Ctrl-C."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click

from tools import postgres_run
from tools.chroma_run import ChromaRun
from tools.run_demo import say, show
from tools.server_process import PASSWORD, create_account

EMAIL = "cluster@example.com"
SERVERS = 2
_START_SECONDS = 120.0
_STOP_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_SERVES = re.compile(r"listening on https?://(\S+)/,")
_WORKS = re.compile(r" works on the database")


class DidNotStart(Exception):
    """A part of the cluster ended, or said nothing, before it was ready."""


class Part:
    """A `reflexio-server` command in a process of its own, whose log is in a file.

    Ctrl-C at the terminal does not reach it: the parts are ended in order.
    """

    def __init__(self, name: str, folder: Path, arguments: Sequence[str], ready: re.Pattern[str]) -> None:
        self.name, self._log = name, folder / f"{name}.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reflexio_server", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self.process.pid
        deadline = time.monotonic() + _START_SECONDS
        while not (found := ready.search(self._log.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise DidNotStart(f"{name} did not start:\n{self._log.read_text()}")
            time.sleep(0.05)
        self.address = found[1] if ready.groups else ""

    def is_gone(self) -> bool:
        return self.process.poll() is not None

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class RunningCluster:
    """All parts, started; at the end of the block they are ended and what they made is removed.

    Raises DidNotStart.

    Attributes:
        servers: those that answer calls.
        url: their addresses, as clients take them.
    """

    def __init__(self, port: int) -> None:
        """`port`: of the first server, the others have the next ones; 0: free ones."""
        self._port = port
        self.servers: list[Part] = []
        self._gone: set[str] = set()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            # Chroma and the servers lay files here; PostgreSQL has a folder of its own, which must be another user's.
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="reflexio-cluster-")))
            self.postgres = postgres_run.Cluster(durable=True)
            opened.callback(self.postgres.close)
            database = ("--database-url", self.postgres.new())
            say(f"PostgreSQL: {database[1]} (pid {self.postgres.pid})")
            self.chroma = ChromaRun(folder / "chroma", apart=True)
            opened.enter_context(self.chroma)
            say(f"Chroma: {self.chroma.url} (pid {self.chroma.pid})")
            command = [sys.executable, "-m", "reflexio_server", "migrate", *database]
            migrated = subprocess.run(command, capture_output=True, text=True, check=False)
            if migrated.returncode:
                raise DidNotStart(f"reflexio-server migrate failed:\n{migrated.stderr}")
            say(f"Migrated: {migrated.stdout.splitlines()[-1]}")
            shared = (*database, "--chroma-url", self.chroma.url)
            for number in range(SERVERS):
                own = ("--port", str(self._port + number if self._port else 0), "--data-dir", str(folder / str(number)))
                server = Part(f"server-{number}", folder, ["serve", *own, *shared], _SERVES)
                opened.callback(server.stop)
                self.servers.append(server)
                say(f"{server.name}: http://{server.address}/ (pid {server.pid})")
            self.worker = Part("worker", folder, ["worker", "--data-dir", str(folder / "worker"), *shared], _WORKS)
            opened.callback(self.worker.stop)
            say(f"worker: (pid {self.worker.pid})")
            create_account(folder / "0", EMAIL, url=database[1])
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def url(self) -> str:
        return f"http://{','.join(server.address for server in self.servers)}/"

    def gone(self) -> list[str]:
        """The parts that have ended since this was asked before."""
        parts: list[tuple[str, Any]] = [("PostgreSQL", self.postgres), ("Chroma", self.chroma)]
        parts += [(part.name, part) for part in (*self.servers, self.worker)]
        ended = [name for name, part in parts if name not in self._gone and part.is_gone()]
        self._gone.update(ended)
        return ended


@click.command()
@click.option(
    "--port",
    default=8081,
    show_default=True,
    type=click.IntRange(0, 65_535 - SERVERS),
    help="Of the first server; the second has the next one. 0 takes free ones.",
)
@click.option("--demo", is_flag=True, help="Show the demo on it, and end.")
def main(port: int, demo: bool) -> None:
    """Start PostgreSQL, a Chroma server, two servers and a worker on this machine, all on loopback, until Ctrl-C.

    Everything is in temporary folders, which are removed at the end.
    """
    if not postgres_run.binaries():
        raise click.ClickException(postgres_run.HOW)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with RunningCluster(port) as cluster:
            if demo:
                show(cluster.url, EMAIL)
            else:
                _stay(cluster)
    except DidNotStart as error:
        raise click.ClickException(str(error)) from None
    say("Everything is stopped and removed.")


def _stay(cluster: RunningCluster) -> None:
    say(f"Account: {EMAIL}, password: {PASSWORD}")
    say(f"For clients: export REFLEXIO_API_URL={cluster.url}")
    say("Ctrl-C ends it.")
    with suppress(KeyboardInterrupt):
        while True:
            for name in cluster.gone():
                say(f"{name} has ended; the others go on.")
            time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    main()
