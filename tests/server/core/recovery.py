"""What the tests of an index that is built anew share: a store to build it of, and whether nothing is missing."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reflexio_server.index.chroma_process import ChromaFailed, ChromaProcess
from reflexio_server.index.nearest import Expected
from reflexio_server.storage import collections, vectors
from tests.state import has_followed, rows
from tests.support import Caller, LocalServer, ServerProcess
from tests.wire import wait_until

SEED = 20261123
THINGS = (
    "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music guitar".split()
)
QUESTIONS = ("sailing on water", "pets", "playing an instrument", "food", "travelling by rail")
LATER = "a violin"  # what a test publishes after it has looked
Hits = list[tuple[str, float]]
Stamp = tuple[int, int, int, int, str]


@dataclass
class Asked:
    """What the index was asked while a test ran."""

    queries: int = 0
    upserts: int = 0
    checks: int = 0


@contextmanager
def serving(data_dir: Path, model_dir: Path, *arguments: str) -> Iterator[ServerProcess]:
    """A server in a process of its own, which does not outlive the block; its index has every account."""
    server = ServerProcess(data_dir, model_dir, *arguments, module="tests.every_account")
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()


def back(server: LocalServer | ServerProcess, caller: Caller) -> Caller:
    """The same caller at a server that was started again."""
    return Caller(server.address, caller.email, caller.api_key)


def texts(count: int, seed: int = SEED) -> list[str]:
    chosen = random.Random(seed)
    return [f"{chosen.choice(THINGS)} {chosen.choice(THINGS)} {number}" for number in range(count)]


def publish(caller: Caller, contents: list[str]) -> None:
    for start in range(0, len(contents), 100):
        caller.publish(f"user {start // 100 % 3}", *contents[start : start + 100])


def searches(caller: Caller) -> list[Hits]:
    """The top 10 of some searches of the whole account, leaving out LATER."""
    found: list[Hits] = []
    for question in QUESTIONS:
        hits = [hit for hit in caller.search(query=question, top_k=11).hits if hit.interaction.content != LATER]
        found.append([(hit.interaction.interaction_id, hit.score) for hit in hits[:10]])
        assert len(found[-1]) == 10
    return found


def same(found: list[Hits], expected: list[Hits]) -> bool:
    """Whether these are the same hits: Chroma's arithmetic and ours differ in the sixth digit, so ties may swap."""
    for hits, wanted in zip(found, expected, strict=True):
        if not np.allclose([score for _, score in hits], [score for _, score in wanted], atol=5e-5):
            return False
        last = wanted[-1][1] + 1e-4
        if not {name for name, score in wanted if score > last} <= {name for name, _ in hits}:
            return False
    return True


def unindexed(caller: Caller) -> int:
    return caller.search(query="anything").unindexed_count


def stamps(data_dir: Path) -> list[Stamp]:
    """Every vector with its stamp: a vector that was made again has another."""
    found = rows(data_dir, "SELECT id, interaction_ref, model, chunk, vector FROM vectors ORDER BY id")
    return [(*row[:4], hashlib.sha256(row[4]).hexdigest()) for row in found]


def wait_for_index(server: LocalServer) -> None:
    wait_until(lambda: has_followed(server), "the index to be complete")
    index, model = server.app.follower._index, server.live_model()
    assert index
    with server.app.database.read() as conn:
        live = collections.live_collections(conn, model)
        for collection in live:
            wanted = vectors.applied_stamps(conn, collection.account_id, model, collection.applied)
            assert index.stamps(collection.name).tolist() == wanted.tolist()


def problem_of(folder: Path, expected: list[Expected]) -> str | None:
    """What is wrong with a folder that nobody uses; None when it holds what it must."""
    process = ChromaProcess(folder, lambda: False)
    try:
        return process.open(suspect=True) or process.check(expected)
    except ChromaFailed as error:
        return str(error)
    finally:
        process.close()


def wait_for_vectors(data_dir: Path, count: int) -> None:
    """Wait until so many vectors are stored, seen from outside of the server."""
    wait_until(lambda: rows(data_dir, "SELECT count(*) FROM vectors")[0][0] >= count, f"{count} vectors")


def filled(start: Callable[..., LocalServer], data_dir: Path, count: int = 250) -> tuple[LocalServer, Caller]:
    """A server with an index that holds everything."""
    server = start(data_dir)
    caller = server.new_caller()
    publish(caller, texts(count))
    wait_for_index(server)
    return server, caller


def stopped_store(start: Callable[..., LocalServer], data_dir: Path, count: int = 250) -> tuple[Caller, list[Hits]]:
    """A data directory that was closed in order, and what its searches find."""
    server, caller = filled(start, data_dir, count)
    expected = searches(caller)
    server.stop()
    return caller, expected


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(random.Random(SEED).randbytes(len(content)))
