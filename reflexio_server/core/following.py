"""Keeps the index up to the vectors in SQL, and replaces it when it is lost or damaged."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from reflexio.supervised import Supervised, say
from reflexio_server.core.index_jobs import IndexJobs
from reflexio_server.core.index_truth import IndexTruth
from reflexio_server.errors import Damaged, DomainError, Ended
from reflexio_server.index import nearest
from reflexio_server.index.nearest import BATCH, Engine, Index, Late, Stopped, Unavailable
from reflexio_server.shortage import shortage
from reflexio_server.storage import collections, embedders, settling, vectors
from reflexio_server.storage.collections import Collection
from reflexio_server.storage.database import Database, is_of_database
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0  # seconds between tries while the index fails
_WELL_SECONDS = 1.0  # after which it is not called failing any more; the pauses stay long for longer
_LOOK_SECONDS = 0.5  # how often it is looked for jobs
_TRIES_OF_JOBS = 2  # after so many failures in a row jobs do not wait for the index any more


class Follower:
    """Applies each account's new vectors to its collections, on a thread of its own, and does the index's jobs there.

    The index is opened there too, so that a server starts, writes and answers whatever state the folder is in.
    Whatever the index raises has it set aside and built anew from SQL, without embedding anything again; only when
    files, memory or room on the disk are short, or its process was killed, is it closed, tried again later, and kept if
    it is in order.
    """

    def __init__(
        self, database: Database, writer: Writer, engine: Engine, prove: Callable[[], None] = lambda: None
    ) -> None:
        """`prove` raises NotLeader once another process takes care of the index; asked before anything is dropped."""
        self._prove = prove
        self._database = database
        self._writer = writer
        self._engine = engine
        self._truth = IndexTruth(database)
        self.query_seconds = engine.query_seconds
        """How long a search waits for the index at most."""
        self._jobs = IndexJobs(database, writer, prove)
        self._index: Index | None = None
        self._failing: tuple[Index, BaseException, str | None] | None = None  # what a search met, and a shortage
        self._damaged = False
        self._tries = 0  # that failed one after the other
        self._left_jobs = True  # some may say that they run
        self._last = 0  # the highest number of an index there was
        self._accounts: set[int] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self.thread = Supervised(
            "chroma", self._work, logger, first_pause=_FIRST_PAUSE, longest_pause=engine.longest_pause
        )

    def start(self) -> None:
        """Open or rebuild the index in the background, and follow."""
        self.thread.start()

    def follow(self, accounts: set[int]) -> None:
        """Say that these accounts have new vectors, or erased ones."""
        with self._changed:
            self._accounts |= accounts
            self._changed.notify_all()

    def stop(self) -> None:
        """Stop after the batch at hand and close the index; what is left is taken up at the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.thread.end()
        if self._index is not None:  # the database failed last
            self._index.close()

    @property
    def is_open(self) -> bool:
        """Whether the index can be asked: not while it is opened, checked, or begun anew."""
        return self._index is not None

    def query(
        self,
        collection: Collection,
        vector: NDArray[np.float32],
        count: int,
        user: int | None,
        timeout: float | None = None,
    ) -> tuple[list[int], NDArray[np.float32]] | None:
        """The nearest vectors' stamps and cosines; None while the index cannot be asked, or after `timeout` seconds
        (default: `query_seconds`).

        Raises Ended when the call does that asks.
        """
        index = self._index
        if index is None or index.number != collection.folder or collection.name in index.dropped:
            return None
        try:
            return index.query(collection.name, vector, count, user, timeout)
        except Late:
            return None
        except Ended:
            raise
        except BaseException as error:  # a panic of Chroma is no Exception
            short = _shortage(error)
            with self._changed:
                if self._index is index:
                    self._index, self._failing = None, (index, error, short)
                    self._changed.notify_all()
            return None

    def _work(self) -> None:
        """Raises what the index or the database raises; to be begun again after a pause."""
        while not self._stopping:
            try:
                self._open()
                self._follow_until_stopped()
            except Stopped:
                break
            except Damaged as error:
                self._give_up(error)
                raise
            except DomainError:
                say(logger.warning, "the Chroma index waits: writing is not possible now")
                with self._changed:
                    self._changed.wait_for(lambda: self._stopping, _FIRST_PAUSE)
            except BaseException as error:
                self._give_up(error)
                raise
        index, self._index = self._index, None
        if index is not None:
            index.close()
            index.note_closed({one.name: one.applied for one in self._truth.live()})

    def _give_up(self, error: BaseException) -> None:
        """Close the index, unless it was the database that failed, and judge whether it can be kept."""
        self._tries += 1
        self._left_jobs = True
        if isinstance(error, Damaged) or is_of_database(error):
            return
        short = _shortage(error)
        with self._changed:
            index, self._index = self._index, None
            if self._failing is not None:
                (index, _, short), self._failing = self._failing, None
        if index is not None:
            index.close()
        if short:
            say(logger.warning, "the Chroma index is kept and tried again: %s", short)
        else:
            self._damaged = True
        if self._tries > _TRIES_OF_JOBS:
            with suppress(Exception):  # as writing may not be possible either
                self._jobs.give_up(
                    f"the index cannot be used now ({type(error).__name__}): ask again later", waiting=True
                )

    def _open(self) -> None:
        if self._failing is not None:
            raise self._failing[1]
        if self._left_jobs:
            reason = "the index failed" if self._tries else "the server stopped"
            self._jobs.give_up(f"{reason} before it was done: ask again")
            self._left_jobs = False
        if self._index is not None:
            return
        self._prove()
        live = self._truth.live()
        # Searches that began before must not take another index for theirs, see `query`.
        self._last = max([self._last, *(collection.folder for collection in live)])
        index = None
        try:
            if self._damaged:
                raise nearest.Damaged("it failed in use")
            index = self._engine.open(live, self._truth, lambda: self._stopping)
        except nearest.Damaged as problem:
            say(logger.warning, "the Chroma index is built anew from the database: %s", problem)
            self._writer.submit(collections.drop_collections).result()
            self._engine.set_aside()
        self._damaged = False
        self._prove()
        index = index or self._engine.begin(self._last, lambda: self._stopping)
        try:
            self._writer.submit(collections.drop_small).result()
            index.drop(set(index.names()) - {collection.name for collection in self._truth.live()})
            with self._database.read() as conn:
                state = embedders.state(conn)
                lagging = [collections.lagging_accounts(conn, model) for model in state.in_use] if state else []
                lagging.append(settling.accounts_with_pending(conn))
        except BaseException:
            index.close()
            raise
        with self._changed:
            self._accounts.update(*lagging)
            self._index = index

    def _follow_until_stopped(self) -> None:
        opened = time.monotonic()
        while True:
            with self._changed:
                wait = 0 if self._jobs.is_busy else _LOOK_SECONDS
                self._changed.wait_for(lambda: self._stopping or self._failing or self._accounts, wait)
                if self._failing is not None:
                    raise self._failing[1]
                if self._stopping:
                    return
                account_id = self._accounts.pop() if self._accounts else None
            index = self._index
            if index is None:
                return
            if account_id is not None:
                try:
                    self._follow(index, account_id)
                    self._settle(index, account_id)
                except BaseException:
                    self.follow({account_id})
                    raise
            self._jobs.step(index)
            if self._tries and time.monotonic() - opened > _WELL_SECONDS:
                self.thread.last_failure = ""
            if self._tries and time.monotonic() - opened > self._engine.longest_pause:
                self._tries = 0
                self.thread.well()

    def _follow(self, index: Index, account_id: int) -> None:
        """Apply one batch of an account's vectors of each model, and come back to it while there are more.

        Where there are few, they are compared one by one: no collection is made, and one that there was is let go.
        """
        with self._database.read() as conn:
            state = embedders.state(conn)
        for model in state.in_use if state else ():
            with self._database.read() as conn:
                live = collections.live_collection(conn, account_id, model)
                most = collections.EXACT_ACCOUNT // (2 if live else 1)
                needed = collections.has_more(conn, account_id, model, most)
                following = live or Collection(account_id, model, index.number, 1, 0)
                new = vectors.after(conn, account_id, model, following.applied, BATCH) if needed else None
            if live and not needed:
                self._writer.submit(collections.drop_small).result()
            if new is None or not len(new.stamps):
                continue
            first = following.applied == 0
            index.upsert(following.name, new.stamps.tolist(), new.users.tolist(), new.matrix, first)
            followed = following.up_to(int(new.stamps[-1]))
            self._writer.submit(lambda conn, followed=followed: collections.set_live(conn, followed)).result()  # type: ignore[misc]
            if len(new.stamps) == BATCH:
                self.follow({account_id})

    def _settle(self, index: Index, account_id: int) -> None:
        """Take a batch of what was erased out of the account's collections, also of replaced and half built ones.

        What reads vectors and puts them in does so without a step of this in between, so none comes back.
        """
        with self._database.read() as conn:
            erased = settling.pending(conn, account_id, BATCH)
        if not erased:
            return
        self._engine.drop_set_aside()
        names = index.names()
        for model, stamps in erased.items():
            prefix = collections.name_prefix(account_id, model)
            for name in names:
                if name.startswith(prefix):
                    index.delete(name, stamps)
        settled = [stamp for stamps in erased.values() for stamp in stamps]
        self._writer.submit(lambda conn: settling.note_settled(conn, settled)).result()
        if len(settled) == BATCH:
            self.follow({account_id})


def _shortage(error: BaseException) -> str | None:
    """What passes and is no damage, for the log."""
    if isinstance(error, Unavailable | Late):
        return str(error) or "it did not answer in time"
    short = shortage(error)
    return f"there are too many {short}" if short else None
