"""The folders of Chroma below a data directory: the one in use, those set aside, and whether one can be trusted.

chromadb caches its clients by path, so a folder that was set aside is followed by one of another name: a number.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from reflexio.supervised import say
from reflexio_server.index.chroma_note import forget_closed, is_as_closed
from reflexio_server.index.chroma_process import QUERY_SECONDS, ChromaFailed, ChromaProcess
from reflexio_server.index.nearest import Damaged, Expected, Live, Truth

logger = logging.getLogger(__name__)

CHROMA_FOLDER = "chroma"  # below the data directory


class ChromaFolders:
    """The index engine of a process that has its data directory for itself; see `nearest.Engine`."""

    query_seconds = QUERY_SECONDS
    longest_pause = 60.0

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / CHROMA_FOLDER

    def open(self, live: Sequence[Live], truth: Truth, stopping: Callable[[], bool]) -> ChromaProcess | None:
        folder = newest_folder(self._root)
        if folder is None:
            if live:
                raise Damaged("its folder is gone")
            return None
        if any(collection.folder != int(folder.name) for collection in live):
            raise Damaged("its folder is another one")
        suspect = not is_as_closed(folder, {collection.name: collection.applied for collection in live})
        try:
            return _opened(folder, stopping, truth.expected if suspect else None)
        except ChromaFailed as error:
            raise Damaged(str(error)) from error

    def begin(self, last: int, stopping: Callable[[], bool]) -> ChromaProcess:
        used = [int(path.name.split(".")[0]) for path in self._root.glob("*") if path.name.split(".")[0].isdigit()]
        return _opened(self._root / str(max([last, *used]) + 1), stopping)

    def reading(self, number: int) -> None:
        return None

    def set_aside(self) -> None:
        folder = newest_folder(self._root)
        if folder is not None:
            self.drop_set_aside()
            forget_closed(folder)
            aside = folder.rename(folder.with_suffix(".damaged"))
            say(logger.warning, "the old one was set aside as %s and may be deleted", aside)

    def drop_set_aside(self) -> None:
        for folder in self._root.glob("*.damaged"):
            shutil.rmtree(folder, ignore_errors=True)

    def have_checked(self) -> None:
        for note in self._root.glob("*.closed"):
            note.unlink(missing_ok=True)


def newest_folder(root: Path) -> Path | None:
    """The folder in use below `root`: the one with the highest number for a name."""
    numbered = [path for path in root.glob("*") if path.name.isdigit() and path.is_dir()]
    return max(numbered, key=lambda path: int(path.name), default=None)


def _opened(
    folder: Path, stopping: Callable[[], bool], expected: Callable[[], list[Expected]] | None = None
) -> ChromaProcess:
    """The folder in a process of its own, which checks it first where it is said what it must hold."""
    if expected is not None:
        say(logger.info, "checking the Chroma index: it was not closed in order")
    process = ChromaProcess(folder, stopping)
    try:
        problem = process.open(suspect=expected is not None)
        if expected is not None:
            problem = problem or process.check(expected())
            if problem is None:
                say(logger.info, "the Chroma index is in order")
    except BaseException:
        process.close()
        raise
    if problem:
        process.close()
        raise Damaged(problem)
    return process
