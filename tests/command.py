"""The command `reflexio-server` as tests run it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from reflexio_server.cli.main import main
from tests import canaries
from tests.support import PASSWORD

EMAIL = "me@example.com"


def run(*arguments: str | Path, given: str = "", env: dict[str, str] | None = None) -> Result:
    """A command in this process."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], input=given, env=env)
    canaries.look(result.output, "what a command said", "outputs")
    return result


def run_alone(
    *arguments: str | Path, given: str = "", env: dict[str, str] | None = None, umask: int = -1
) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "reflexio_server", *(str(argument) for argument in arguments)]
    result = subprocess.run(
        command,
        input=given,
        env=os.environ | (env or {}),
        umask=umask,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    canaries.look(result.stdout + result.stderr, "what a command said", "outputs")
    return result


def create(data_dir: Path, email: str = EMAIL, password: str = PASSWORD) -> Result:
    return run("accounts", "create", email, "--data-dir", data_dir, given=password + "\n")


def account_on(url: str, data_dir: Path) -> str:
    """Make an account in PostgreSQL's database at this URL, as from another machine with this data directory."""
    email = "someone@example.com"
    env = {"REFLEXIO_DATABASE_URL": url}
    made = run("accounts", "create", email, "--data-dir", data_dir, env=env, given=PASSWORD + "\n")
    assert made.exit_code == 0, made.stderr
    return email


def said(result: Result | subprocess.CompletedProcess[str]) -> str:
    """What a command that failed said about it; a traceback is no answer."""
    if isinstance(result, Result):
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        code, text = result.exit_code, result.stderr
    else:
        code, text = result.returncode, result.stderr
    assert code in (1, 2), text
    assert "Traceback" not in text
    assert "Error: " in text
    return text.partition("Error: ")[2].strip()


class Terminal:
    """A command on a terminal of its own, which a person types into."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "reflexio_server", *(str(argument) for argument in arguments)]
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read until this is shown, and forget all before it."""
        while text not in self.shown:
            try:
                read = os.read(self._terminal, 4096)
            except OSError:  # the end, on Linux
                read = b""
            assert read, f"{text!r} was not shown, but {self.shown!r}"
            self.shown += read.decode()
        before, _, self.shown = self.shown.partition(text)
        assert PASSWORD not in before

    def type(self, line: str) -> None:
        os.write(self._terminal, line.encode() + b"\n")

    def exit_code(self) -> int:
        _, status = os.waitpid(self.pid, 0)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)
