"""W16: a SIGHUP, as a terminal's end or a reload sends it, does not end the server."""

import os
import signal
from pathlib import Path

from tests.command import EMAIL
from tests.support import ServerProcess, create_account, log_in
from tests.wire import wait_until


def test_a_hangup_changes_nothing(tmp_path: Path, model_dir: Path) -> None:
    create_account(tmp_path, EMAIL)
    server = ServerProcess(tmp_path, model_dir)
    caller = log_in(server.address, EMAIL)
    for count in (1, 2, 3):
        os.kill(server.process.pid, signal.SIGHUP)
        wait_until(lambda: sum("SIGHUP" in line for line in server.lines) == count, "the line in the log", 20)  # noqa: B023
        caller.publish("u", "still here")
    assert server.process.poll() is None
    assert len(caller.get(user_id="u").interactions) == 3
    assert server.terminate() == 0
