"""The index's jobs: building collections anew beside the live ones, and holding them against the database."""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from reflexio.supervised import say
from reflexio_server.clock import now_us
from reflexio_server.core.index_truth import IndexTruth, stamps_of
from reflexio_server.errors import DomainError
from reflexio_server.index.nearest import BATCH, Index, Stamps, are_equal, differences, finds_itself, too_many_unfound
from reflexio_server.storage import collections, embedders, jobs, vectors, waiting
from reflexio_server.storage.collections import Collection
from reflexio_server.storage.database import Database
from reflexio_server.storage.jobs import Job
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)

KEEP_SECONDS = 60.0
"""How long a replaced collection is kept: searches that began before it was replaced still ask it."""

_LOOK_SECONDS = 0.5  # how often it is looked for a job, and how often one says how far it is
_SWEEP_SECONDS = 10.0
_FEW = "so few vectors that they are compared one by one, not in Chroma"
_SELF_QUERIES = 100  # so many of a collection's vectors are searched for when it is verified

Steps = Generator[int, None, str]
"""Yields the number of vectors that each batch handled, and returns what came of it, for a person."""


class IndexJobs:
    """Does one job at a time, a batch at a step, so that following goes on between its steps.

    What a job builds is not live before it is complete; when the process ends before, the next start drops it.
    """

    def __init__(self, database: Database, writer: Writer, prove: Callable[[], None]) -> None:
        self._prove = prove
        self._database = database
        self._writer = writer
        self._truth = IndexTruth(database)
        self._job: Job | None = None
        self._steps: Iterator[int] = iter(())
        self._done = self._total = 0
        self._looked = self._told = self._swept = 0.0
        self._unneeded: dict[str, float] = {}
        self._names: list[str] = []  # of the collections there were when the job began

    @property
    def is_busy(self) -> bool:
        return self._job is not None

    def give_up(self, reason: str, *, waiting: bool = False) -> None:
        """Say of a job that was left undone that it failed; with `waiting` also of those that were not begun."""
        self._job, self._unneeded = None, {}
        self._writer.submit(lambda conn: jobs.give_up(conn, reason, waiting=waiting)).result()

    def step(self, index: Index) -> None:
        """Do the next batch of the job at hand, or look for one to begin."""
        if self._job is None:
            self._look(index)
            return
        try:
            handled = next(self._steps, None)
        except _Hindered as error:
            self._steps = self._end(self._job, "failed", str(error))
        except DomainError:
            self._steps = self._end(self._job, "failed", "writing was not possible: ask for it again")
            raise
        else:
            if handled is None:
                self._job = None
            else:
                self._done += handled
                self._tell(self._job)

    def _look(self, index: Index) -> None:
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        with self._database.read() as conn:
            job = jobs.next_waiting(conn)
        if job is not None:
            say(logger.info, "job %d, %s of the index, begins", job.job_id, job.kind)
            self._job, self._steps, self._told = job, self._carry_out(index, job), 0.0
        elif now - self._swept >= _SWEEP_SECONDS:
            self._swept = now
            self._sweep(index, now)

    def _sweep(self, index: Index, now: float) -> None:
        """Drop the collections that were replaced a while ago, and have the index look after itself."""
        self._prove()
        unneeded = set(index.names()) - {collection.name for collection in self._truth.live()}
        self._unneeded = {name: self._unneeded.get(name, now) for name in unneeded}
        index.drop({name for name, since in self._unneeded.items() if now - since >= KEEP_SECONDS})
        index.tend(self._truth)

    def _carry_out(self, index: Index, job: Job) -> Iterator[int]:
        began = time.monotonic()
        with self._database.read() as conn:
            state = embedders.state(conn)
            found = collections.report(conn, state.live, job.account_id) if state else []
        self._names = index.names()
        self._done, self._total = 0, sum(one.vectors for one in found)
        said = []
        for one in found:
            assert state
            work = self._rebuild if job.kind == "rebuild" else self._verify
            result = yield from work(index, one.account_id, state.live)
            said.append(f"{one.email}: {result}")
        said.append(f"{job.kind} took {time.monotonic() - began:.1f} s")
        yield from self._end(job, "done", "\n".join(said))

    def _rebuild(self, index: Index, account_id: int, model: int) -> Steps:
        prefix = collections.name_prefix(account_id, model)
        used = [int(name.removeprefix(prefix)) for name in self._names if name.startswith(prefix)]
        fresh = Collection(account_id, model, index.number, max(used, default=0) + 1, 0)
        count = 0
        with self._database.read() as conn:
            live = collections.live_collection(conn, account_id, model)
            if live is None and not collections.has_more(conn, account_id, model, collections.EXACT_ACCOUNT):
                return _FEW
        while True:
            with self._database.read() as conn:
                _check_live(embedders.live(conn), model)
                new = vectors.after(conn, account_id, model, fresh.applied, BATCH)
            if not len(new.stamps):
                break
            index.upsert(fresh.name, new.stamps.tolist(), new.users.tolist(), new.matrix, fresh.applied == 0)
            fresh = fresh.up_to(int(new.stamps[-1]))
            count += len(new.stamps)
            yield len(new.stamps)
        if not count:
            return "there is nothing to rebuild"
        now = now_us()
        self._writer.submit(lambda conn: collections.set_live(conn, fresh, rebuilt_at=now)).result()
        return f"{count} vectors, generation {fresh.generation}"

    def _verify(self, index: Index, account_id: int, model: int) -> Steps:
        with self._database.read() as conn:
            _check_live(embedders.live(conn), model)
            lost = waiting.lost(conn, account_id, model)
        for start in range(0, len(lost), BATCH):
            part = lost[start : start + BATCH]
            self._writer.submit(lambda conn, part=part: waiting.let_wait(conn, part), [account_id]).result()  # type: ignore[misc]
            yield 0
        said = [f"{len(lost)} interactions had lost their vectors and wait for new ones"] if lost else []
        with self._database.read() as conn:
            live = collections.live_collection(conn, account_id, model)
            expected = stamps_of(conn, live) if live else None
            needs_one = collections.has_more(conn, account_id, model, collections.EXACT_ACCOUNT)
        if live is None or expected is None:
            return ", ".join([*said, "no vectors in Chroma yet" if needs_one else _FEW])
        missing, extra = differences(index, expected)
        yield 0
        yield from self._put_in(index, live, missing.tolist())
        for start in range(0, len(extra), BATCH):
            index.delete(live.name, extra[start : start + BATCH].tolist())
            yield 0
        tried, wrong, unfound = yield from self._search_for_themselves(index, live, expected.needed)
        said += [
            f"{len(expected.needed)} vectors",
            f"{len(missing)} were missing",
            f"{len(extra)} were too many",
            f"{len(unfound)} of {tried} did not find themselves",
        ]
        if wrong or too_many_unfound(len(unfound), tried):
            said.append("rebuilt: " + (yield from self._rebuild(index, account_id, model)))
        else:
            yield from self._put_in(index, live, unfound)  # which links them anew
            yield len(expected.needed)
        now = now_us()
        self._writer.submit(lambda conn: collections.note_verified(conn, live, now)).result()
        return ", ".join(said)

    def _put_in(self, index: Index, live: Collection, stamps: Sequence[int]) -> Iterator[int]:
        for start in range(0, len(stamps), BATCH):
            with self._database.read() as conn:
                some = vectors.of_stamps(conn, stamps[start : start + BATCH])
            if len(some.stamps):  # else all were erased meanwhile
                index.upsert(live.name, some.stamps.tolist(), some.users.tolist(), some.matrix, False)
            yield 0

    def _search_for_themselves(
        self, index: Index, live: Collection, stamps: Stamps
    ) -> Generator[int, None, tuple[int, int, list[int]]]:
        """Of how many vectors the index holds how many wrongly, and which of them it does not find by themselves."""
        chosen = np.random.default_rng().permutation(stamps)[:_SELF_QUERIES].tolist()
        tried, wrong, unfound = 0, 0, []
        for stamp in chosen:
            with self._database.read() as conn:
                found = vectors.of_stamps(conn, [stamp])
            if len(found.stamps):  # else it was erased meanwhile
                tried += 1
                wrong += not are_equal(index.vectors(live.name, [stamp]), found.matrix)
                unfound += [] if finds_itself(index, live.name, stamp, found.matrix[0]) else [stamp]
            yield 0
        return tried, wrong, unfound

    def _tell(self, job: Job) -> None:
        now = time.monotonic()
        if now - self._told >= _LOOK_SECONDS:
            self._told = now
            self._writer.submit(lambda conn: jobs.note_progress(conn, job.job_id, self._done, self._total)).result()

    def _end(self, job: Job, state: str, result: str) -> Iterator[int]:
        say(logger.info, "job %d, %s of the index, %s: %s", job.job_id, job.kind, state, result.replace("\n", "; "))
        self._writer.submit(lambda conn: jobs.end(conn, job.job_id, state, result)).result()
        yield from ()


class _Hindered(Exception):
    """A job cannot go on; the text says why and what to do."""


def _check_live(live: int, model: int) -> None:
    if live != model:
        raise _Hindered("another model took over meanwhile: ask for it again")
