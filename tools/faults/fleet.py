"""The processes of a run: started here, ended here, whatever happens in between."""

import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from reflexio_server.core.accounts import Accounts, new_account
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database, own
from reflexio_server.storage.writer import Writer
from tools.faults.caller import Caller
from tools.faults.plants import VARIABLE as PLANT_VARIABLE
from tools.faults.stores import Store, environment
from tools.server_process import OWN, PASSWORD, Code, rss_mb

START_SECONDS = 120.0  # a loaded machine takes long
EMAIL = "faults@example.com"
QUICK_EMBEDDER = ("--embedder", "wordllama")  # it takes little of what the processes of a run share


class Fleet:
    """Child processes, each in a group of its own; the end of the block kills every group that still runs."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
            processes = list(self._processes)
        for process in processes:
            end(process)

    def start(
        self,
        module: str,
        *arguments: str,
        log: Path,
        environment: Mapping[str, str] | None = None,
        plant: str = "",
        code: Code = OWN,
    ) -> subprocess.Popen[bytes]:
        """Start a module of this package, by this code; it reads nothing until its standard input is closed."""
        command = [code.python, "-m", f"tools.faults.{module}", *arguments]
        whole = {**(code.env or os.environ), **(environment or {}), PLANT_VARIABLE: plant}
        with self._lock, log.open("ab") as output:
            if self._over:
                raise RuntimeError("the run is over")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=whole,
                cwd=code.tree,
                start_new_session=True,
            )
            self._processes = [one for one in self._processes if one.returncode is None]
            self._processes.append(process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to a child and to what it started; nothing when it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    if process.stdin:
        process.stdin.close()


class Server:
    """A real server that is killed and started again on the same port and store."""

    def __init__(
        self,
        fleet: Fleet,
        store: Store,
        plant: str = "",
        # Where it is not what is tested, the index would take the processor.
        arguments: Sequence[str] = ("--no-indexing",),
        *,
        api_key: str | None = None,
        works_behind: bool = False,
        port: int | None = None,
    ) -> None:
        """`api_key`: of an account that is there; None makes one. `works_behind`: as a worker, which takes no calls.
        `port`: that it shares; None takes a free one."""
        self.kills = 0
        self._began = 0
        self.port = port or _free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.address = f"127.0.0.1:{self.port}"
        self._fleet = fleet
        self.plant = plant
        self.code = OWN
        self._arguments = arguments
        self.store = store
        self._log = store.data_dir.with_name(f"{store.data_dir.name}.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._spare: subprocess.Popen[bytes] | None = None
        self._works_behind = works_behind
        self.api_key = api_key or make_accounts(store, EMAIL)[0]

    def start(self) -> None:
        """Returns when it listens."""
        self._began = before = self._log.stat().st_size if self._log.exists() else 0
        self._process = process = self._spare or self._load()
        self._spare = None
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + START_SECONDS
        ready = b"works on" if self._works_behind else b"listening on"
        while ready not in (said := self._log.read_bytes()[before:]):
            if process.poll() is not None or time.monotonic() > deadline:
                end(process)
                raise RuntimeError(f"the server did not start:\n{said.decode(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def prepare(self) -> None:
        """Load the next process while this one serves, so that kills can follow each other quickly."""
        self._spare = self._spare or self._load()

    def _load(self) -> subprocess.Popen[bytes]:
        arguments = ["worker"] if self._works_behind else ["serve", "--port", str(self.port)]
        arguments += ["--data-dir", str(self.store.data_dir), "--log-level", "info"]
        arguments += self._arguments
        variables = environment(self.store)
        return self._fleet.start(
            "serve", *arguments, log=self._log, environment=variables, plant=self.plant, code=self.code
        )

    @property
    def pid(self) -> int:
        assert self._process, "it was not started"
        return self._process.pid

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def caller(self) -> Caller:
        """A new connection with its account's key; whoever asks for it closes it."""
        return Caller(self.address, self.api_key)

    def rss_mb(self) -> float:
        return rss_mb(self.pid)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def stop(self) -> None:
        """End it as an operator does; it finishes what it has begun."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            end(self._process)
            self._process = None

    def said(self) -> str:
        """What it has logged since it was started last."""
        return self._log.read_bytes()[self._began :].decode(errors="replace")

    def kill(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None
            self.kills += 1


class Flapper:
    """Kills a server at random moments, soon after it began to store, and starts it again; at the end it is up."""

    def __init__(
        self, server: Server, chosen: random.Random, longest_up: float, longest_down: float, longest_idle: float
    ) -> None:
        self._server = server
        self._chosen = chosen
        self._longest = longest_up, longest_down, longest_idle
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="flapper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is None:  # else the fleet ends the server, and the thread with it
            self._thread.join()
            self.check()

    def check(self) -> None:
        if self._failure is not None:
            raise RuntimeError("the server could not be started again") from self._failure

    def _run(self) -> None:
        up, down, idle = self._longest
        try:
            while not self._over.is_set():
                self._server.prepare()
                self._server.store.wait_until_written(idle, self._over)  # else a kill shows little
                if self._over.wait(self._chosen.uniform(0, up)):
                    return
                self._server.kill()
                self._over.wait(self._chosen.uniform(0, down))
                self._server.start()
        except BaseException as error:
            self._failure = error


def _free_port() -> int:
    """Outside the ephemeral range: a client that dials while the server is down must not take it by chance."""
    chosen = random.SystemRandom()  # runs of one seed may go on at the same time
    while True:
        port = chosen.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def make_accounts(store: Store, *emails: str) -> list[str]:
    """Make accounts with a key each, without a server: clients of a run may come before it."""
    with own(store.data_dir):
        database = Database(store.data_dir, owner=True, url=store.url)
        writer = Writer(database, 10)
        api_keys = []
        for email in emails:
            with database.write() as conn:
                add_account(conn, *new_account(email, PASSWORD), 1)
            api_keys.append(Accounts(database, writer).login(email, PASSWORD)[0])
        writer.close()
        database.close()
    return api_keys
