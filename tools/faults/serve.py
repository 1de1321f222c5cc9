"""A command of `reflexio-server`, from the first byte of its input on, with a planted fault if one is asked for.

It ends when the run that started it is gone.
"""

import os
import sys
import threading
import time
from pathlib import Path

import reflexio_server.app  # noqa: F401  takes a second, and is done before the server is wanted
from reflexio_server.cli.main import main
from tools.faults import plants


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if not sys.stdin.buffer.read(1):
        sys.exit()
    plants.into_server(Path(sys.argv[sys.argv.index("--data-dir") + 1]), os.environ.get("REFLEXIO_DATABASE_URL"))
    main(sys.argv[1:])
