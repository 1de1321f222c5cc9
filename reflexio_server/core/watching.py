"""Tells of the threads behind the calls that fail: to health, and to who asks for the index's state by the command."""

import json
import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from reflexio.supervised import Supervised

logger = logging.getLogger(__name__)

_FILE = "troubles.json"  # in the data directory; there while the server runs and something fails
_LOOK_SECONDS = 0.5


def troubles(data_dir: Path) -> dict[str, str]:
    """What fails in the running server: by the thread's name what ended its work last."""
    try:
        return {str(name): str(error) for name, error in json.loads((data_dir / _FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


class Watch:
    """Looks at threads, and says when all of them are well and when not.

    A thread is well again when its work began anew and got somewhere. Only the kind of an error is told, as its text
    may hold anything; the log has all of it.
    """

    def __init__(self, data_dir: Path, threads: Iterable[Supervised], tell: Callable[[bool], None]) -> None:
        """`tell` is called with whether all are well, at the begin and at each change."""
        self._file = data_dir / _FILE
        self.thread = Supervised("watch", self._work, logger)
        self.threads = [*threads, self.thread]
        self._tell = tell
        self._told: dict[str, str] | None = None
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to look."""
        self._file.unlink(missing_ok=True)
        self.thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.thread.end()
        self._file.unlink(missing_ok=True)

    def _work(self) -> None:
        while not self._over.is_set():
            self._look()
            self.thread.well()
            self._over.wait(_LOOK_SECONDS)

    def _look(self) -> None:
        failing = {one.name: one.last_failure.split(":")[0] for one in self.threads if one.last_failure}
        if failing == self._told:
            return
        self._tell(not failing)
        if failing:
            self._file.write_text(json.dumps(failing))
        else:
            self._file.unlink(missing_ok=True)
        self._told = failing
