"""This tree's server beside that of another revision: each on its own code and store, asked in turn over the wire."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from tools.benchmarks.calls import log_in
from tools.server_process import Code, ServerProcess, create_account

T = TypeVar("T")
TREE = Path(__file__).parents[2]
_ENVIRONMENT = ("requirements.lock", "pyproject.toml")  # what an environment is made from
_MODEL = tuple(
    f"reflexio_server/index/{name}.py" for name in ("minilm", "minilm_install", "bert_build", "onnx_file", "weights")
)
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
        old_code = opened.enter_context(code_of(revision, Path(name)))
        stores = folder or Path(name)
        new = Arm(Code(TREE), stores / "new store", (*arguments, *new_arguments))
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
def code_of(revision: str, folder: Path) -> Iterator[Code]:
    """The revision's tree, checked out; its environment and its model are its own where their sources differ from this
    tree's."""
    tree = folder / "tree"
    _git("worktree", "add", "--detach", str(tree), revision)
    try:
        own_models = Code(tree, environment={"REFLEXIO_MODEL_DIR": str(folder / "models")})
        if not _is_same(tree, _ENVIRONMENT):
            _make(f"the environment of {revision}", own_models, str(tree / "scripts" / "setup"))
            yield replace(own_models, python=str(tree / ".venv" / "bin" / "python"))
        elif not _is_same(tree, _MODEL):
            _make(f"the model of {revision}", own_models, sys.executable, "-m", "reflexio_server", "model", "install")
            yield own_models
        else:
            yield Code(tree)
    finally:
        _git("worktree", "remove", "--force", str(tree))


def _is_same(tree: Path, names: Sequence[str]) -> bool:
    files = [(tree / name, TREE / name) for name in names]
    return all(old.is_file() and new.is_file() and old.read_bytes() == new.read_bytes() for old, new in files)


def _make(what: str, code: Code, *command: str) -> None:
    print(f"making {what}", file=sys.stderr, flush=True)
    linked = {"UV_LINK_MODE": "hardlink", "UV_HTTP_TIMEOUT": "300"}
    env = {**os.environ, **(code.env or {}), **linked}
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=code.tree, env=env, timeout=1800)


def _git(*arguments: str) -> None:
    done = subprocess.run(["git", "-C", str(TREE), *arguments], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise click.ClickException(done.stderr.strip())
