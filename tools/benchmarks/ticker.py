"""A thread that wants to run each millisecond, in a process with a server on a data directory, or alone.

Prints the server's address, then for each line it reads its longest gap since the line before, in ms.
"""

import sys
import threading
import time
from pathlib import Path


class Ticker(threading.Thread):
    """`longest` is in seconds, from one tick to the next."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.longest = 0.0

    def run(self) -> None:
        last = time.perf_counter()
        while True:
            time.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now


def tell() -> None:
    ticker = Ticker()
    ticker.start()
    for _ in sys.stdin:
        print(round(ticker.longest * 1000, 1), flush=True)
        ticker.longest = 0.0


def tell_of_server(data_dir: Path) -> None:
    from reflexio_server.app import App
    from reflexio_server.config import Settings
    from reflexio_server.process import once_serving

    app = App(Settings(data_dir=data_dir, port=0))
    app.start()
    once_serving()
    print(app.address, flush=True)
    tell()
    app.stop()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        tell_of_server(Path(sys.argv[1]))
    else:
        tell()
