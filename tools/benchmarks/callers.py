"""Many callers at once: how many searches they get through, alone and beside a bulk stream."""

import multiprocessing
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from sqlalchemy import Connection

from reflexio.v1 import interaction_service_pb2 as pb
from tools.benchmarks.calls import Caller, items_of, percentile, together
from tools.benchmarks.filling import Language, users_of
from tools.benchmarks.stores import EMAIL, Store, copied, wait_for

CALLERS = (1, 8, 32)
SEVERAL = 8
SECONDS = 12.0


def quiet(store: Store, language: Language) -> dict[str, Any]:
    """Searches of users of 1,000 and nothing else."""
    taken = {callers: _searches(store, language, callers) for callers in CALLERS}
    return {
        "search_per_s": {str(callers): round(len(times) / SECONDS, 1) for callers, times in taken.items()},
        "p99_ms_of_8": percentile(taken[SEVERAL], 99),
    }


def busy(store: Store, language: Language) -> dict[str, Any]:
    """The same while a process of its own streams publishes as fast as they are taken, to a copy of the store."""
    with copied(store) as data_dir, closing(Store(data_dir, EMAIL, store.arguments)) as copy, _bulk(copy):
        times = _searches(copy, language, SEVERAL)
    return {"busy_search_per_s": round(len(times) / SECONDS, 1), "busy_p99_ms": percentile(times, 99)}


@contextmanager
def _bulk(store: Store) -> Iterator[None]:
    """Streams until the block ends; the first requests are stored when it begins."""
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    stop = context.Event()
    bulk = context.Process(target=stream_bulk, args=(store.address, store.key, stop), daemon=True)
    with store.database.read() as conn:
        before = _newest(conn)
    bulk.start()
    try:
        wait_for(store.database, lambda conn: _newest(conn) > before, 60)
        yield
    finally:
        stop.set()
        bulk.join(60)
        bulk.kill()


def _newest(conn: Connection) -> int:
    newest: int = conn.exec_driver_sql("SELECT max(id) FROM interactions").scalar_one()
    return newest


def _searches(store: Store, language: Language, callers: int) -> list[float]:
    questions = [language.question() for _ in range(1_000)]
    return together(store, callers, questions, users_of(1_000), SECONDS)


def stream_bulk(address: str, key: str, stop: Any) -> None:
    """Publish over streams of 1,000 requests until told to stop."""
    texts = Language(2).turns(2_000)
    caller = Caller(address, key)

    def requests(stream: int) -> Iterator[pb.PublishInteractionsRequest]:
        for number in range(1_000):
            if stop.is_set():
                return
            yield pb.PublishInteractionsRequest(
                user_id=f"bulk {number % 50}",
                interactions=items_of(texts[number * 10 % len(texts) :][:10]),
                request_id=f"bulk_{stream}_{number}",
            )

    stream = 0
    while not stop.is_set():
        caller.stream(requests(stream))
        stream += 1
