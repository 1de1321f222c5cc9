"""How a process comes by spool files: one of its own, and those of processes that ended."""

import logging
import sqlite3
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reflexio.spool.database import NewerVersionError, is_damage
from reflexio.spool.file import SpoolFile
from reflexio.spool.folder import ForeignError, SpoolSettings, check_private, spool_paths
from reflexio.spool.salvage import FAULTS
from reflexio.supervised import say
from reflexio.terminal import shown

ADVICE = (
    "To be rid of it, move it away with the files beside it (-wal, -shm, .lock); "
    "`python -m reflexio.spool export` writes what can be read of it"
)
MAX_ADOPTED = 16  # files at a time: each takes three descriptors
_log = logging.getLogger("reflexio")
_left_alone: set[Path] = set()
_troubled: set[Path] = set()


@dataclass(frozen=True, slots=True)
class News:
    """Something about the spool that its user should hear; a warning unless it may pass."""

    text: str
    passing: bool = False

    def tell(self) -> None:
        """Say it; not while a lock is held, for a log handler may publish, and whoever logs may wait for the lock."""
        say(_log.warning, "%s", shown(self.text))
        if not self.passing:
            with suppress(Exception):  # warnings may be turned into errors
                warnings.warn(self.text, RuntimeWarning, stacklevel=3)


def own_file(settings: SpoolSettings, news: deque[News]) -> SpoolFile:
    """A new file of this process; in memory, with a warning, where none can be written."""
    try:
        return SpoolFile.create(settings)
    except (OSError, sqlite3.Error) as error:
        text = (
            f"no spool can be written in {settings.folder} ({error}): publishes are kept in memory only and are "
            "lost when this process ends before they are delivered; give spool_dir or set REFLEXIO_SPOOL_DIR"
        )
        news.append(News(text))
    return SpoolFile.in_memory()


def orphans(settings: SpoolSettings, news: deque[News]) -> Iterator[Path]:
    """The spool files of this address and account that may be had and are not known to be unreadable, oldest first."""
    paths = [path for path in spool_paths(settings.folder, settings.prefix) if path not in _left_alone]
    if not paths:
        return
    try:
        check_private(settings.folder)
    except OSError as error:
        if settings.folder not in _left_alone:
            _left_alone.add(settings.folder)
            news.append(News(f"the spool files of ended processes are left alone: {error}"))
        return
    yield from paths


def adopt(path: Path, news: deque[News]) -> SpoolFile | None:
    """The file, if nobody owns it and it can be read; what is wrong with it is news once."""
    try:
        return SpoolFile.adopt(path)
    except NewerVersionError as error:
        text = f"a spool file is left alone: {error}; a newer version of reflexio will deliver it"
    except ForeignError as error:
        text = f"a spool file is left alone: {error}"
    except (*FAULTS, OSError) as error:
        if not is_damage(error):  # too many open files, a disk that fails
            if path not in _troubled:
                _troubled.add(path)
                text = f"the spool file {path} cannot be read now, trying again later: {error}"
                news.append(News(text, passing=True))
            return None
        text = f"the spool file {path} cannot be read and is left where it is: {error}. {ADVICE}"
    leave_alone(path)
    news.append(News(text))
    return None


def leave_alone(path: Path | None) -> None:
    """Touch the file no more in this process."""
    if path is not None:
        _left_alone.add(path)
