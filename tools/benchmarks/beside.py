"""This tree's server beside that of another revision: each on its own code and store, asked in turn over the wire."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import click

from tools.benchmarks.calls import log_in
from tools.server_process import Code, ServerProcess, create_account

T = TypeVar("T")
_TREE = Path(__file__).parents[2]
_ENVIRONMENT = ("requirements.lock", "pyproject.toml")  # what an environment is made from
_PROGRAM_SECONDS = 7200


class Arm:
    """A tree's code, a data directory with one account, and the server on it once that is started.

    Attributes:
        is_new: the data directory was not there before.
    """

    def __init__(self, code: Code, data_dir: Path, arguments: Sequence[str]) -> None:
        self.code, self.data_dir, self.arguments = code, data_dir, tuple(arguments)
        self.email = "beside@example.com"
        self.is_new = not data_dir.exists()
        if self.is_new:
            create_account(data_dir, self.email, code=code)
        self.address = self.key = ""
        self._server: ServerProcess | None = None

    def start(self, *arguments: str) -> ServerProcess:
        self._server = ServerProcess(self.data_dir, None, *self.arguments, *arguments, code=self.code)
        self.address = self._server.address
        self.key = self.key or log_in(self.address, self.email)
        return self._server

    def stop(self) -> None:
        if self._server and self._server.process.poll() is None:
            self._server.terminate()

    def run(self, program: str, *arguments: str) -> None:
        """Run a program (Python) on the tree's code. It is given the data directory, then the arguments."""
        command = [self.code.python, "-c", program, str(self.data_dir), *arguments]
        subprocess.run(command, check=True, cwd=self.code.tree, env=self.code.env, timeout=_PROGRAM_SECONDS)


@contextmanager
def arms(
    revision: str, new_arguments: Sequence[str] = (), *arguments: str, folder: Path | None = None
) -> Iterator[tuple[Arm, Arm]]:
    """This tree's and the revision's, not started yet; everything is gone at the end, also when SIGTERM comes.

    Both servers get the `arguments`, this tree's the new ones too. The data directories stay if they have a `folder`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="reflexio-beside-") as name, ExitStack() as opened:
        old_code = opened.enter_context(_code_of(revision, Path(name)))
        stores = folder or Path(name)
        new = Arm(Code(_TREE), stores / "new store", (*arguments, *new_arguments))
        old = Arm(old_code, stores / f"store of {revision}", arguments)
        for arm in (new, old):
            opened.callback(arm.stop)
        yield new, old


def in_turn(call: Callable[[T], float], new: T, old: T, number: int) -> tuple[float, float]:
    """What the call gives for the one and for the other; who goes first changes with the number."""
    if number % 2:
        second = call(old)
        return call(new), second
    first = call(new)
    return first, call(old)


def ratio(new: Mapping[str, float], old: Mapping[str, float]) -> dict[str, float]:
    """Each figure of the new one divided by the old one's."""
    return {key: round(value / old[key], 3) for key, value in new.items()}


@contextmanager
def _code_of(revision: str, folder: Path) -> Iterator[Code]:
    """The revision's tree, checked out, with an environment made from its own lock; this one's if both are the same."""
    tree = folder / "tree"
    _git("worktree", "add", "--detach", str(tree), revision)
    try:
        if all((tree / name).read_bytes() == (_TREE / name).read_bytes() for name in _ENVIRONMENT):
            yield Code(tree)
        else:
            environment = {"REFLEXIO_MODEL_DIR": str(folder / "models")}
            print(f"making the environment of {revision}", file=sys.stderr, flush=True)
            linked = {"UV_LINK_MODE": "hardlink", "UV_HTTP_TIMEOUT": "300"}
            subprocess.run(
                [tree / "scripts" / "setup"],
                check=True,
                stdout=sys.stderr,
                env={**os.environ, **linked, **environment},
                timeout=1800,
            )
            yield Code(tree, str(tree / ".venv" / "bin" / "python"), environment)
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(_TREE), *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise click.ClickException(done.stderr.strip())
