"""What is read for a call stops when the call ends, and nothing else does."""

import contextvars
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from reflexio_server.ending import Ending, check, work_of
from reflexio_server.errors import Ended
from reflexio_server.storage.database import Database
from reflexio_server.storage.prepared import Prepared

pytestmark = pytest.mark.store

ENDLESS = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n) SELECT count(*) FROM n"
LONG = Prepared(text(f"SELECT count(*) FROM ({ENDLESS.replace('count(*)', 'n')} LIMIT 20000) found"))
READS: dict[str, Callable[[Connection], object]] = {
    "prepared": lambda conn: Prepared(text(ENDLESS)).scalar(conn),
    "core": lambda conn: conn.execute(text(ENDLESS)).scalar(),
    "many short ones": lambda conn: [conn.execute(text("SELECT 1")).scalar() for _ in iter(int, 1)],
    "row by row": lambda conn: list(
        conn.execution_options(yield_per=1).execute(text(ENDLESS.replace("count(*)", "n")))
    ),
}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path, owner=True, readers=2)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "read",
    # PostgreSQL is told to stop a statement, and so by the next one that a call runs; none fetches by Core.
    [pytest.param(read, id=name, marks=[pytest.mark.sqlite] * (name == "row by row")) for name, read in READS.items()],
)
def test_a_read_stops_when_its_call_ends(database: Database, read: Callable[[Connection], object]) -> None:
    call, begun = Ending(), threading.Event()

    def work() -> None:
        with work_of(call), database.read() as conn:
            begun.set()
            read(conn)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        assert begun.wait(10)
        time.sleep(0.05)
        began = time.monotonic()
        call.come()
        with pytest.raises(Ended):
            working.result(60)
        assert time.monotonic() - began < 0.4  # within 0.1 s where nothing else runs


def test_an_answer_that_is_collected_elsewhere_ends_nothing_there() -> None:
    """A stream's answers may be closed by the garbage collector, in a thread that works for another call by then."""

    def answers(call: Ending) -> Generator[None]:
        with work_of(call):
            yield

    abandoned, over = answers(Ending()), Ending()
    contextvars.copy_context().run(next, abandoned)
    with work_of(over):
        abandoned.close()
        over.come()
        with pytest.raises(Ended):
            check()


def test_the_end_of_a_call_touches_no_other(database: Database) -> None:
    """Connections are used again by the next call, which is not to be stopped by the end of the one before."""
    for _ in range(50):
        call = Ending()
        with work_of(call), database.read() as conn:
            assert LONG.scalar(conn) == 20_000
        stopping = threading.Thread(target=call.come)
        stopping.start()
        with work_of(Ending()), database.read() as conn:
            assert LONG.scalar(conn) == 20_000
        stopping.join()
        assert call.has_come


def test_a_call_that_is_over_reads_nothing(database: Database) -> None:
    call = Ending()
    call.come()
    with work_of(call), pytest.raises(Ended), database.read():
        raise AssertionError
    with database.read() as conn:  # who works for no call is never stopped
        assert conn.execute(text("SELECT 1")).scalar() == 1
