"""What the server's process sets."""

import subprocess
import sys
from pathlib import Path

from tests.support import create_account

_SERVE_UNTIL_FROZEN = """
import gc, os, signal, threading, time
def end():
    while not gc.get_freeze_count():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=end, daemon=True).start()
from reflexio_server.cli.main import main
main()
"""


def test_the_collector_passes_over_what_a_server_has_when_it_serves(tmp_path: Path) -> None:
    """It is ended once it does, and else not at all."""
    create_account(tmp_path)
    command = [sys.executable, "-c", _SERVE_UNTIL_FROZEN, "serve", "--port", "0", "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0
    assert "listening on" in done.stderr + done.stdout
