"""How a process comes by spool files: one of its own, and those of processes that ended."""

import logging
import sqlite3
import warnings
from pathlib import Path

from reflexio.spool.database import NewerVersionError
from reflexio.spool.file import SpoolFile
from reflexio.spool.folder import SpoolSettings, spool_paths

MAX_ADOPTED = 16  # files at a time: each takes three descriptors
_log = logging.getLogger("reflexio")
_left_alone: set[Path] = set()
_troubled: set[Path] = set()


def own_file(settings: SpoolSettings) -> SpoolFile:
    """A new file of this process; in memory, with a warning, where none can be written."""
    try:
        return SpoolFile.create(settings)
    except (OSError, sqlite3.Error) as error:
        text = (
            f"no spool can be written in {settings.folder} ({error}): publishes are kept in memory only and are "
            "lost when this process ends before they are delivered; give spool_dir or set REFLEXIO_SPOOL_DIR"
        )
    _log.warning("%s", text)
    warnings.warn(text, RuntimeWarning, stacklevel=2)
    return SpoolFile.in_memory()


def adopt_orphans(settings: SpoolSettings, held: int) -> list[SpoolFile]:
    """The spool files of this address and account that nobody owns, the oldest first; `held` are adopted already."""
    found: list[SpoolFile] = []
    for path in spool_paths(settings.folder, settings.prefix):
        if held + len(found) >= MAX_ADOPTED:
            break
        if path not in _left_alone and (file := adopt(path)) is not None:
            found.append(file)
    return found


def adopt(path: Path) -> SpoolFile | None:
    """The file, if nobody owns it and it can be read; what is wrong with it is said once."""
    try:
        return SpoolFile.adopt(path)
    except NewerVersionError as error:
        _leave_alone(path, f"a spool file is left alone: {error}; a newer version of reflexio will deliver it")
    except (OSError, sqlite3.OperationalError) as error:  # too many open files, a disk that fails: it may pass
        if path not in _troubled:
            _troubled.add(path)
            _log.warning("the spool file %s cannot be read now, trying again later: %s", path, error)
    except sqlite3.Error as error:
        _leave_alone(path, f"the spool file {path} cannot be read and is left where it is: {error}")
    return None


def _leave_alone(path: Path, text: str) -> None:
    _left_alone.add(path)
    _log.warning("%s", text)
    warnings.warn(text, RuntimeWarning, stacklevel=3)
