"""This tree's server beside that of another revision: each on its own code and store, asked in turn over the wire."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click
import grpc

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc
from tools.server_process import PASSWORD, Code, ServerProcess, create_account

T = TypeVar("T")
_TREE = Path(__file__).parents[2]
_ENVIRONMENT = ("requirements.lock", "pyproject.toml")  # what an environment is made from


@dataclass(frozen=True, slots=True)
class Arm:
    """A server that was started on an empty store, and a key of its one account."""

    address: str
    key: str


@contextmanager
def arms(revision: str, *arguments: str) -> Iterator[tuple[Arm, Arm]]:
    """Servers of this tree and of the revision, both alive; everything is gone at the end, also when SIGTERM comes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="reflexio-beside-") as name, ExitStack() as opened:
        folder = Path(name)
        codes = {"new": Code(_TREE), "old": opened.enter_context(_code_of(revision, folder))}
        made: list[Arm] = []
        for which, code in codes.items():
            data_dir = folder / f"{which} store"
            email = create_account(data_dir, code=code)
            server = ServerProcess(data_dir, None, *arguments, code=code)
            opened.callback(_stop, server)
            with grpc.insecure_channel(server.address) as channel:
                login = auth_service_pb2.LoginRequest(email=email, password=PASSWORD)
                key = auth_service_pb2_grpc.AuthServiceStub(channel).Login(login, timeout=30).api_key
            made.append(Arm(server.address, key))
        yield made[0], made[1]


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


def _stop(server: ServerProcess) -> None:
    if server.process.poll() is None:
        server.terminate()
