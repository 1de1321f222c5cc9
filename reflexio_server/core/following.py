"""Keeps the Chroma index behind the vectors in SQL, and replaces it when it is lost or damaged."""

import logging
import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reflexio_server.core.expecting import expected_of
from reflexio_server.errors import DomainError
from reflexio_server.index import chroma
from reflexio_server.index.chroma import ChromaIndex, collection_name
from reflexio_server.index.chroma_check import CheckStopped, check
from reflexio_server.storage import vectors
from reflexio_server.storage.database import Database
from reflexio_server.storage.vectors import Collection
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between tries while the index fails


class Follower:
    """Applies each account's new vectors to its collection, on a thread of its own.

    The index is opened there too, so that a server starts, writes and answers whatever state the folder is in.
    Whatever the index raises has it set aside and built anew from SQL, without embedding anything again.
    """

    def __init__(self, database: Database, writer: Writer, root: Path, model: int) -> None:
        self._database = database
        self._writer = writer
        self._root = root
        self._model = model
        self._index: ChromaIndex | None = None
        self._failed = False
        self._accounts: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="chroma", daemon=True)

    def start(self) -> None:
        """Open or rebuild the index in the background, and follow."""
        self._thread.start()

    def follow(self, accounts: set[int]) -> None:
        """Say that these accounts have new vectors."""
        with self._changed:
            self._accounts |= accounts
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop after the batch at hand and close the index; what is left is taken up at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def query(
        self, collection: Collection, vector: NDArray[np.float32], count: int, user: int | None
    ) -> tuple[list[int], NDArray[np.float32]] | None:
        """The nearest vectors' stamps and cosines; None while the index cannot be asked."""
        index = self._index
        if index is None or index.generation != collection.generation:
            return None
        try:
            return index.query(self._name(collection), vector, count, user)
        except Exception:
            logger.exception("the Chroma index failed at a search; it will be built anew")
            with self._changed:
                if self._index is index:
                    self._index, self._failed = None, True
                    self._changed.notify_all()
            return None

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            opened = time.monotonic()
            try:
                self._open()
                opened = time.monotonic()
                self._follow_until_stopped()
            except CheckStopped:
                break
            except DomainError:
                logger.warning("the Chroma index waits: writing is not possible now")
            except Exception:
                logger.exception("the Chroma index failed; it will be built anew")
                self._index, self._failed = None, True
            if time.monotonic() - opened > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        if self._index is not None:
            self._index.close()
            with self._database.read() as conn:
                live = vectors.live_collections(conn, self._model)
            self._index.note_closed(self._applied(live))
            self._index = None

    def _open(self) -> None:
        if self._index is not None:
            return
        folder = chroma.newest_folder(self._root)
        problem = "it failed in use" if self._failed else self._problem(folder)
        if problem:
            logger.warning("the Chroma index is built anew from the database: %s", problem)
            self._writer.submit(vectors.forget_collections).result()
            if folder is not None:
                logger.warning("the old one was set aside as %s and may be deleted", chroma.set_aside(folder))
                folder = None
        index = ChromaIndex(folder or chroma.next_folder(self._root))
        with self._database.read() as conn:
            live = vectors.live_collections(conn, self._model)
            lagging = vectors.lagging_accounts(conn, self._model)
        index.drop_all_but({self._name(collection) for collection in live})
        with self._changed:
            self._accounts |= set(lagging)
            self._index, self._failed = index, False

    def _problem(self, folder: Path | None) -> str | None:
        with self._database.read() as conn:
            live = vectors.live_collections(conn, self._model)
            if folder is None:
                return "its folder is gone" if live else None
            if any(collection.generation != chroma.generation_of(folder) for collection in live):
                return "its folder is another one"
            if chroma.is_as_closed(folder, self._applied(live)):
                return None
            logger.info("checking the Chroma index: it was not closed in order")
            expected = [expected_of(conn, found, self._name(found), self._model) for found in live]
        problem = check(folder, expected, lambda: self._stopping)
        if problem is None:
            logger.info("the Chroma index is in order")
        return problem

    def _name(self, collection: Collection) -> str:
        return collection_name(collection.account_id, self._model, collection.generation)

    def _applied(self, live: list[Collection]) -> dict[str, int]:
        return {self._name(collection): collection.applied for collection in live}

    def _follow_until_stopped(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._failed or self._accounts)
                if self._stopping or self._failed:
                    return
                account_id = self._accounts.pop()
            try:
                self._follow(account_id)
            except BaseException:
                self.follow({account_id})
                raise

    def _follow(self, account_id: int) -> None:
        """Apply one batch of an account's vectors, and come back to it while there are more."""
        index = self._index
        if index is None:
            return
        with self._database.read() as conn:
            live = vectors.live_collection(conn, account_id, self._model)
            live = live or Collection(account_id, index.generation, 0)
            new = vectors.after(conn, account_id, self._model, live.applied, chroma.BATCH)
        if not len(new.stamps):
            return
        index.upsert(self._name(live), new.stamps.tolist(), new.users.tolist(), new.matrix)
        followed = Collection(account_id, live.generation, int(new.stamps[-1]))
        self._writer.submit(lambda conn: vectors.set_applied(conn, self._model, followed)).result()
        if len(new.stamps) == chroma.BATCH:
            self.follow({account_id})
