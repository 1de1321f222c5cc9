"""A pytest plugin that looks for secrets where none may be, in every run of the tests.

Passwords of the tests are one fixed text and API keys have a form of their own, so both are known wherever they turn
up: as they are, in base64 and in hexadecimal. Everything logs at DEBUG. Looked through are all log records of this
process with their tracebacks, what tests print, the errors that servers answer and clients raise here, what server
processes and commands say, and every file that the tests leave: databases, indexes, spools, logs.
"""

import base64
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc_status.rpc_status
import pytest

from reflexio.errors import ReflexioError
from tools.server_process import PASSWORD

# A key shows its first 4 characters (`hint`); twice as many are a leak.
_KEY = re.compile(rb"rflx_[a-z0-9]{10}_[A-Za-z0-9_-]{8}")
_NOISY = ("chromadb", "alembic", "httpcore", "httpx", "asyncio", "filelock")
# Where a test itself puts a key: what is typed for docs/grpcurl.md and what it gives, and programs that tests write.
_OF_TESTS = {"login.json", "second.json", "headers.txt", "login.out", "buf-login.out", "typed", "scenario.json"}

_MOST_BYTES = 1024**3

found: list[str] = []
looked = {"log records": 0, "errors": 0, "outputs": 0, "files": 0, "MiB": 0.0}
_outputs: list[tuple[str, list[str]]] = []


def _forms(secret: bytes) -> Iterator[bytes]:
    """The secret, in hexadecimal, and in base64 at each place within a longer text."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret)
        whole = (before + len(secret)) * 8 // 6  # characters that depend on nothing after it
        yield encoded[-(-before * 8 // 6) : whole]


_NEEDLES = tuple({form for secret in (PASSWORD.encode(), b"rflx_") for form in _forms(secret)} - {b"rflx_"})


def holds_secret(data: bytes) -> bool:
    """Whether a password or key is in it, in any of the forms."""
    return any(needle in data for needle in _NEEDLES) or (b"rflx_" in data and _KEY.search(data) is not None)


def look(data: str | bytes, where: str, kind: str) -> None:
    """Look through one thing; what is found fails the run."""
    looked[kind] += 1
    if holds_secret(data.encode(errors="replace") if isinstance(data, str) else data):
        found.append(f"{where} (in {os.environ.get('PYTEST_CURRENT_TEST', 'no test')})")


def watch(where: str, lines: list[str]) -> None:
    """Look through these lines at the end of the run, when they are complete."""
    _outputs.append((where, lines))


class _Records(logging.Handler):
    """Looks at each record as a file would get it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Look at the text, the traceback and the fields that were given with it."""
        look(f"{self.format(record)}\n{record.__dict__}", f"a log record of {record.name}", "log records")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart() -> None:
    """Log everything, and look at it and at every error."""
    logging.getLogger().setLevel(logging.DEBUG)
    logging.getLogger().addHandler(_Records())
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.INFO)
    os.environ["REFLEXIO_LOG_LEVEL"] = "debug"  # for servers in processes of their own
    answer, fail = grpc_status.rpc_status.to_status, ReflexioError.__init__

    def to_status(status: Any) -> Any:
        look(status.SerializeToString(), "the status of a call", "errors")
        return answer(status)

    def init(self: ReflexioError, *arguments: Any, **more: Any) -> None:
        look(f"{arguments} {more}", f"a {type(self).__name__}", "errors")
        fail(self, *arguments, **more)

    grpc_status.rpc_status.to_status = to_status
    ReflexioError.__init__ = init  # type: ignore[method-assign]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look at what a test printed; the last report has all of it, and log records were looked at already."""
    if report.when == "teardown":
        for name, text in report.sections:
            if not name.startswith("Captured log"):
                look(text, name, "outputs")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look through what is left, and fail the run when anything was found."""
    for where, lines in _outputs:
        look("".join(lines), where, "outputs")
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None:
        _look_through(factory.getbasetemp())
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _look_through(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.name not in _OF_TESTS and path.suffix != ".py":
            if path.stat().st_size > _MOST_BYTES:
                found.append(f"the file {path.relative_to(folder)}, perhaps: it is too large to look through")
                continue
            data = path.read_bytes()
            looked["MiB"] += len(data) / 1024 / 1024
            look(data, f"the file {path.relative_to(folder)}", "files")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how much was looked at, and where secrets are."""
    numbers = ", ".join(f"{round(number)} {name}" for name, number in looked.items())
    terminalreporter.write_line(f"canaries: {len(found)} secrets found in {numbers}")
    for place in found:
        terminalreporter.write_line(f"  a password or key is in {place}")
