"""A real Chroma server on a folder, in a process of its own that can be killed, stopped and given another folder."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

START_SECONDS = 120.0  # a loaded machine takes long
# What the program `chroma` does, without the two seconds that importing all of chromadb takes.
_PROGRAM = "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', *sys.argv[1:]])"
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class ChromaRun:
    """`chroma run`, which keeps its port over restarts. `apart`: Ctrl-C at the terminal does not reach it."""

    def __init__(self, folder: Path, *, apart: bool = False) -> None:
        self.folder = folder
        self._apart = apart
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=30)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        self.http.close()

    def start(self) -> None:
        at = ["--path", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port)]
        command = [sys.executable, "-c", _PROGRAM, "run", *at]
        environment = {**os.environ, "ANONYMIZED_TELEMETRY": "False"}
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=null, stdout=null, stderr=null, env=environment, start_new_session=self._apart
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the Chroma server did not start")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def is_gone(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stall(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def copy(self, to: Path) -> Path:
        """The folder as it is, of a server that is killed for it and started again."""
        self.kill()
        shutil.copytree(self.folder, to)
        self.start()
        return to

    def replace(self, by: Path | None) -> None:
        """Put an older copy in the folder's place, or an empty one."""
        self.kill()
        shutil.rmtree(self.folder)
        if by is not None:
            shutil.copytree(by, self.folder)
        self.start()

    def collections(self, path: str = COLLECTIONS) -> dict[str, str]:
        """The ids of all collections by their names."""
        return {one["name"]: one["id"] for one in self.http.get(path, params={"limit": 1000}).json()}

    def ids(self, name: str) -> set[int]:
        """What is in a collection."""
        found = self.http.post(f"{COLLECTIONS}/{self.collections()[name]}/get", json={"include": []}).json()
        return {int(one) for one in found["ids"]}

    def vectors(self, name: str) -> dict[int, list[float]]:
        """The vectors of a collection by their ids."""
        asked = {"include": ["embeddings"]}
        found = self.http.post(f"{COLLECTIONS}/{self.collections()[name]}/get", json=asked).json()
        return dict(zip(map(int, found["ids"]), found["embeddings"], strict=True))

    def make(self, name: str, vector: list[float]) -> None:
        """A collection of somebody else's."""
        made = self.http.post(COLLECTIONS, json={"name": name}).json()
        content: dict[str, Any] = {"ids": ["1"], "embeddings": [vector]}
        assert self.http.post(f"{COLLECTIONS}/{made['id']}/upsert", json=content).status_code == 200

    def _answers(self) -> bool:
        try:
            return self.http.get("/api/v2/heartbeat").status_code == 200
        except httpx.HTTPError:
            return False
