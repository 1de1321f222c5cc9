"""Tells of the threads behind the calls that fail: to health, and to who asks for the index's state by the command."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from reflexio.supervised import Supervised
from reflexio_server.core.looking import Looking

_FILE = "troubles.json"  # in the data directory; there while the server runs and something fails
_LOOK_SECONDS = 0.5


def troubles(data_dir: Path) -> dict[str, str]:
    """What fails in the running server: by the thread's name what ended its work last."""
    try:
        return {str(name): str(error) for name, error in json.loads((data_dir / _FILE).read_text()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


class Watch(Looking):
    """Looks at threads, and says when all of them are well and when not.

    A thread is well again when its work began anew and got somewhere. Only the kind of an error is told, as its text
    may hold anything; the log has all of it.
    """

    def __init__(
        self, data_dir: Path, threads: Callable[[], Iterable[Supervised]], tell: Callable[[bool], None]
    ) -> None:
        """`threads` gives those there are; `tell` is called with whether all are well, at first and at each change."""
        self._file = data_dir / _FILE
        super().__init__("watch", _LOOK_SECONDS)
        self._threads = threads
        self._tell = tell
        self._told: dict[str, str] | None = None

    def start(self) -> None:
        self._file.unlink(missing_ok=True)
        self.thread.start()

    def stop(self) -> None:
        self.thread.end()
        self._file.unlink(missing_ok=True)

    def _look(self) -> None:
        failing = {
            one.name: one.last_failure.split(":")[0] for one in (*self._threads(), self.thread) if one.last_failure
        }
        if failing == self._told:
            return
        self._tell(not failing)
        if failing:
            self._file.write_text(json.dumps(failing))
        else:
            self._file.unlink(missing_ok=True)
        self._told = failing
