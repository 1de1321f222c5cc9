"""A real `reflexio-server` in a process of its own, for the demo, the benchmarks and the tests."""

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PASSWORD = "only for a server of this run"


@dataclass(frozen=True, slots=True)
class Code:
    """Whose code a process runs: this process's own, or a tree's, by a Python and in an environment that fit it."""

    tree: Path | None = None
    python: str = sys.executable
    environment: Mapping[str, str] | None = None

    @property
    def env(self) -> dict[str, str] | None:
        """The variables of such a process; None: this process's."""
        if self.tree is None:
            return None
        found_first = os.pathsep.join((str(self.tree / "reflexio_client"), str(self.tree)))
        return {**os.environ, **(self.environment or {}), "PYTHONPATH": found_first}


OWN = Code()


def create_account(
    data_dir: Path, email: str | None = None, password: str = PASSWORD, code: Code = OWN, url: str | None = None
) -> str:
    """Make an account by the command line, as a person would; with a URL in the database there."""
    email = email or f"{secrets.token_hex(4)}@example.com"
    command = [code.python, "-m", "reflexio_server", "accounts", "create", email, "--data-dir", str(data_dir)]
    command += ["--database-url", url] if url else []
    subprocess.run(
        command, input=password, text=True, check=True, capture_output=True, timeout=60, cwd=code.tree, env=code.env
    )
    return email


def rss_mb(pid: int, figure: str = "VmRSS") -> float:
    """What a process has in memory, or by "VmHWM" has had at most, in MiB, as Linux tells."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{figure}:")[1].split()[0]) / 1024


class PeakMemory:
    """The most memory a process has during the block, as the kernel keeps it (Linux: proc_pid_clear_refs(5))."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.above_before = 0.0
        """In MiB, known at the end of the block."""

    def __enter__(self) -> Self:
        self._before = rss_mb(self._pid)
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.above_before = round(rss_mb(self._pid, "VmHWM") - self._before, 1)


class ServerProcess:
    """`reflexio-server serve` in a process of its own; its log is in `lines`.

    `under`: a command that runs it, such as a tracer; it must stay this process's child. `env`: instead of this
    process's.
    """

    def __init__(
        self,
        data_dir: Path,
        model_dir: Path | None = None,
        *arguments: str,
        module: str = "reflexio_server",
        under: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        code: Code = OWN,
    ) -> None:
        command = [*under, code.python, "-m", module, "serve", "--port", "0"]
        command += ["--data-dir", str(data_dir), *(["--model-dir", str(model_dir)] if model_dir else []), *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=code.tree, env=env or code.env)
        self.lines: list[str] = []
        self._listening = threading.Event()
        self.address = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._listening.wait(60) or not self.address:
            self.process.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self.lines))

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on https?://(\S+)/,", line)
            if found:
                self.address = found[1]
                self._listening.set()
        self._listening.set()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit code, when the process has ended and all that it said is in `lines`."""
        code = self.process.wait(60)
        self._reader.join(10)
        return code
