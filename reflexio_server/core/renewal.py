"""Brings what older versions stored up to this one, behind everything else: the words of texts, and their vectors."""

import logging
import time
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from reflexio.supervised import Supervised, say
from reflexio_server import words
from reflexio_server.core.embedders import Embedders
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.errors import DomainError
from reflexio_server.storage import full_text, waiting
from reflexio_server.storage.database import Database
from reflexio_server.storage.full_text import Old
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

STEP_ROWS = 20
STEP_CHARACTERS = 20_000
"""What a step indexes anew, or one row if that has more: publishes wait for no more than a step, some 10 ms."""

_READ_AT_ONCE = 200
_RETRY_SECONDS = 1.0
_TELL_SECONDS = 10.0


class Renewal:
    """Cuts the words of every older row anew, oldest first, on a thread of its own, and ends when none is left.

    How far it got is in the database, so that it goes on after a restart; until it is through, searches ask for both
    this version of a word and the first. On the way it lets rows of the first wait for new vectors whose texts the
    model cannot read: it gave them all the same one.
    """

    def __init__(self, database: Database, writer: Writer, embedders: Embedders, vector_maker: VectorMaker) -> None:
        self._database = database
        self._writer = writer
        self._embedders = embedders
        self._vector_maker = vector_maker
        self._told = 0.0
        self.thread = Supervised("renewal", self._work, logger)

    def _work(self) -> None:
        while not self.thread.over.is_set():
            try:
                if self._writer.submit(lambda conn: full_text.begin_renewal(conn, words.VERSION)).result():
                    self._renew()
                return
            except DomainError:
                say(logger.warning, "cutting words anew waits: writing is not possible now")
                self.thread.over.wait(_RETRY_SECONDS)

    def _renew(self) -> None:
        while rows := self._next_rows():
            for step in _steps(rows):
                cut = [(row, words.to_index(row.text)) for row in step]
                unread = [row.ref for row in step if row.words is None and row.text and not self._reads(row)]
                self._write(cut, unread)
                if self.thread.over.is_set():
                    return
            self.thread.well()
            self._tell()
        first = True
        while self._writer.submit(lambda conn: full_text.end_renewal(conn, first=first)).result():  # noqa: B023
            first = False
            if self.thread.over.is_set():
                return
        say(logger.info, "all words are cut as this version cuts them")

    def _next_rows(self) -> list[Old]:
        with self._database.read() as conn:
            return full_text.old_rows(conn, words.VERSION, _READ_AT_ONCE)

    def _write(self, rows: Sequence[tuple[Old, str]], unread: Sequence[int]) -> None:
        def write(conn: Connection) -> None:
            full_text.renew(conn, words.VERSION, rows)
            waiting.let_wait(conn, unread)

        began = time.monotonic()
        self._writer.submit(write, {row.account_id for row, _ in rows}).result()
        if unread:
            self._vector_maker.wake()
        self.thread.over.wait(time.monotonic() - began)  # the writer is there for others at least half of the time

    def _reads(self, row: Old) -> bool:
        with self._database.read() as conn:
            model = self._embedders.live(conn)
        try:
            return model.embedder.reads(row.text)
        except BaseException:  # a panic of the tokenizer is no Exception
            say(logger.exception, "interaction row %d keeps its vectors: it cannot be told what is read of it", row.ref)
            return True

    def _tell(self) -> None:
        if time.monotonic() - self._told < _TELL_SECONDS:
            return
        with self._database.read() as conn:
            done, total = full_text.progress(conn, words.VERSION)
        say(logger.info, "cutting words anew: %d of %d interactions are done", done, total)
        self._told = time.monotonic()


def _steps(rows: Sequence[Old]) -> Iterator[list[Old]]:
    step: list[Old] = []
    characters = 0
    for row in rows:
        if step and (len(step) == STEP_ROWS or characters + len(row.text) > STEP_CHARACTERS):
            yield step
            step, characters = [], 0
        step.append(row)
        characters += len(row.text)
    yield step
