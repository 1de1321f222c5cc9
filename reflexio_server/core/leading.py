"""Doing what only one process of a store may do: the process that leads does, and when it ends, another one."""

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from reflexio.supervised import Supervised, say
from reflexio_server.core.following import Follower
from reflexio_server.core.settling import Settler
from reflexio_server.errors import DomainError
from reflexio_server.storage.candidate import Candidate
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

TRY_SECONDS = 0.25
"""How often a process that does not lead tries to."""

KEEP_SECONDS = 5.0
"""How often one that leads shows that it lives; the database waits three times as long."""

_QUEUE_SIZE = 1024


class Term(Protocol):
    """The parts of whoever leads, which are made anew each time that one comes to."""

    follower: Follower
    settler: Settler

    @property
    def threads(self) -> Sequence[Supervised]: ...

    def start(self) -> None: ...

    def stop(self, *, finish: bool) -> None:
        """End all parts. `finish`: nobody takes over, so what is begun and takes little is brought to its end."""


T = TypeVar("T", bound=Term)


class Leads(Protocol):
    """Whether this process leads: `term` is what it does then, None while another one does."""

    @property
    def term(self) -> Term | None: ...


class Sole(Generic[T]):
    """The only process of its store: it leads from its start to its end, and writes by the server's own Writer."""

    def __init__(self, build: Callable[[], T]) -> None:
        self.term: T | None = None
        self._build = build

    @property
    def threads(self) -> Sequence[Supervised]:
        return self.term.threads if self.term else ()

    def start(self) -> None:
        self.term = self._build()
        self.term.start()

    def resign(self) -> None:
        """It goes on to its end: nobody waits for it."""

    def stop(self) -> None:
        if self.term:
            self.term.stop(finish=True)


class Leading(Generic[T]):
    """Tries to lead, on a thread of its own, and builds and starts the parts of a term when it does.

    All that these write goes through the session that leads. When it is lost the term ends, and what is left of it can
    write nothing; another process, or this one anew, takes up from the database what was not done.

    Attributes:
        term: the parts while this process leads, else None.
    """

    def __init__(self, database: Database, build: Callable[[Writer, Callable[[], None]], T]) -> None:
        """`build` is given by what to write, and what raises NotLeader once another process leads."""
        self.term: T | None = None
        self._database = database
        self._build = build
        self._candidate: Candidate | None = None
        self._writer: Writer | None = None
        self._wake = threading.Event()
        self.thread = Supervised("leader", self._work, logger)

    @property
    def threads(self) -> Sequence[Supervised]:
        term, writer = self.term, self._writer
        return [self.thread, *(writer.threads if writer else ()), *(term.threads if term else ())]

    def start(self) -> None:
        """Lead from now on if nobody does, else as soon as that is so."""
        with suppress(DomainError):
            self._try()
        self.thread.start()

    def resign(self) -> None:
        """Let another process lead, as soon as what is under way has come to its end."""
        self.thread.over.set()
        self._wake.set()

    def stop(self) -> None:
        self.resign()
        self.thread.end()
        self._end_term()

    def _work(self) -> None:
        try:
            while not self.thread.over.is_set():
                with suppress(DomainError):  # the database is away, which is told
                    if self.term is not None or self._try():
                        self._lead()
                self.thread.well()
                self.thread.over.wait(TRY_SECONDS)
        finally:
            self._end_term()

    def _try(self) -> bool:
        """Begin a term if nobody else leads."""
        if self._candidate is None or self._candidate.is_lost:
            self._end_term()
            self._candidate = self._database.candidate()
            assert self._candidate
            self._candidate.on_loss = self._wake.set
        if not self._candidate.try_to_lead():
            return False
        say(logger.info, "this process leads: it takes care of the index, and of what was erased")
        candidate = self._candidate
        try:
            self._writer = Writer(self._database, _QUEUE_SIZE, name="leader's writer", transaction=candidate.write)
            self.term = self._build(self._writer, candidate.prove)
            self.term.start()
        except BaseException:  # another process may do better
            self._end_term()
            raise
        return True

    def _lead(self) -> None:
        """Keep the session until it is lost, or it is time to end."""
        candidate = self._candidate
        assert candidate
        try:
            while not self.thread.over.is_set() and not candidate.is_lost:
                if self._wake.wait(KEEP_SECONDS):
                    self._wake.clear()
                else:
                    candidate.keep()
                self.thread.well()
        finally:
            self._end_term()

    def _end_term(self) -> None:
        term, self.term = self.term, None
        if term is not None:
            term.stop(finish=False)
            say(logger.info, "this process leads no more")
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._candidate is not None:
            self._candidate.close()
            self._candidate = None
