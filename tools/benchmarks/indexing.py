"""How quickly what was published is found by its meaning, and whether anything else runs meanwhile."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.index.embedder import Embedder
from reflexio_server.storage import waiting
from reflexio_server.storage.database import Database
from tools.benchmarks.calls import Caller, items_of, percentile
from tools.benchmarks.filling import Language, users_of
from tools.benchmarks.processes import memory_mb
from tools.benchmarks.stores import Store, copied, wait_for, wait_for_index

FRESH = 100
ROUNDS, TEXTS = 4, 512
STALL_TEXTS = 20_000


def fresh(store: Store, language: Language) -> dict[str, Any]:
    """From the acknowledgement of a publish until a search finds it by its meaning, in ms."""
    taken: list[float] = []
    users = users_of(1_000)
    for number in range(FRESH):
        user = users[number % len(users)]
        text = f"{language.turns(1)[0]} {number}"
        (published,) = store.caller.publish(user, [text]).interaction_ids
        began = time.perf_counter()
        while True:
            hits = store.caller.search(text, user).hits
            if any(hit.interaction.interaction_id == published and hit.semantic > 0 for hit in hits):
                break
        taken.append((time.perf_counter() - began) * 1000)
    return {"fresh_ms": {"p50": percentile(taken, 50), "p99": percentile(taken, 99)}}


def rates(store: Store, language: Language, embedder: Embedder) -> dict[str, Any]:
    """Texts a second: from publishing to vectors stored, and the model alone in one thread; by turns, same texts."""
    indexing = embedding = 0.0
    for number in range(ROUNDS):
        texts = language.turns(TEXTS)
        began = time.perf_counter()
        for text in texts:
            embedder.embed(text)
        embedding += time.perf_counter() - began
        began = time.perf_counter()
        store.caller.publish(f"indexed {number}", texts)
        wait_for(store.database, lambda conn: waiting.first(conn) is None, 120)
        indexing += time.perf_counter() - began
    return {
        "index_per_s": round(ROUNDS * TEXTS / indexing),
        "embed_per_s": round(ROUNDS * TEXTS / embedding),
        "index_ratio": round(embedding / indexing, 2),
    }


def memory(store: Store, language: Language) -> dict[str, Any]:
    store.caller.search(language.question())
    return {"rss_mb": round(memory_mb(store.pid))}


def stall(store: Store, language: Language) -> dict[str, Any]:
    """The longest gap of a thread that wants to run each millisecond, while texts are indexed in its process.

    `stall_elsewhere_ms` is the same of such a thread in a process that does nothing else, at the same time: as long
    as that, the machine alone keeps a thread from running; what is longer is a held lock.
    """
    texts = language.turns(STALL_TEXTS)
    with copied(store) as data_dir, _ticking(str(data_dir)) as host, _ticking() as elsewhere:
        caller = Caller(_answer(host), store.key)
        caller.search(language.question())
        for process in (host, elsewhere):
            _longest(process)  # until now
        caller.stream(_requests(texts))
        with closing(Database(data_dir, owner=False)) as database:
            wait_for_index(database, "what was published")
        return {"stall_ms": _longest(host), "stall_elsewhere_ms": _longest(elsewhere)}


def _requests(texts: list[str]) -> Iterator[pb.PublishInteractionsRequest]:
    for start in range(0, len(texts), 10):
        items = items_of(texts[start : start + 10])
        yield pb.PublishInteractionsRequest(user_id="stalled", request_id=f"stalled {start}", interactions=items)


@contextmanager
def _ticking(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tools.benchmarks.ticker", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            assert process.stdin
            process.stdin.close()
            process.wait(60)
        finally:
            process.kill()


def _longest(process: "subprocess.Popen[str]") -> float:
    """The longest gap since it was asked last, in ms."""
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    return float(_answer(process))


def _answer(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    if line := process.stdout.readline():
        return line.strip()
    raise RuntimeError("the process with the ticker has ended")
