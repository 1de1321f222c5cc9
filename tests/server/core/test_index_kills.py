"""The index under SIGKILL: whenever the server dies, in the end every row has its vector, and Chroma each of them."""

import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.index_truth import expected_of
from reflexio_server.index import chroma_folder
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.storage import collections, vectors
from reflexio_server.storage.database import Database
from tests.server.core.recovery import problem_of
from tests.state import rows
from tests.support import Caller, ServerProcess, create_account, log_in
from tests.wire import wait_until

KILLS = 20
REQUESTS, TURNS = 1_000, 10
WORDS = "boat river ship lake dog cat horse bread cheese wine apple car train plane city garden music guitar".split()


def requests() -> Iterator[pb.PublishInteractionsRequest]:
    """Always the same: what was stored by an earlier server counts as a duplicate."""
    source = random.Random(1)
    for number in range(REQUESTS):
        items = [noun.InteractionData(content=f"{' '.join(source.choices(WORDS, k=4))} {n}") for n in range(TURNS)]
        yield pb.PublishInteractionsRequest(user_id=f"user {number % 7}", interactions=items, request_id=f"r{number}")


def keep_publishing(caller: Caller, made: list[pb.PublishInteractionsRequest]) -> threading.Thread:
    """Send a tenth at a time until the server dies or has it all."""

    def send() -> None:
        try:
            for start in range(0, REQUESTS, REQUESTS // 10):
                caller.stream(made[start : start + REQUESTS // 10])
        except grpc.RpcError:
            pass

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.mark.timeout(400)
def test_nothing_is_missing_and_nothing_is_left_over_after_twenty_kills(tmp_path: Path, model_dir: Path) -> None:
    pytest.importorskip("wordllama", reason="the extra wordllama, which embeds quickly, is not installed")
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    source = random.Random(seed)
    email = create_account(tmp_path)
    made = list(requests())
    api_key = ""
    applied: list[int] = []
    for number in range(KILLS):
        checks = number % 2 and chroma_folder.newest_folder(tmp_path / chroma_folder.CHROMA_FOLDER)
        server = ServerProcess(tmp_path, model_dir, "--embedder", "wordllama", module="tests.every_account")
        try:
            api_key = api_key or log_in(server.address, email).metadata[0][1].removeprefix("Bearer ")
            sender = keep_publishing(Caller(server.address, email, api_key), made)
            if checks:  # while the index grows; else while it is opened or checked
                wait_until(lambda: any("Chroma index is" in line for line in server.lines), "the check")  # noqa: B023
            time.sleep(source.uniform(0, 0.6))
        finally:
            server.kill()
        sender.join(60)
        applied += looked_up(tmp_path, "SELECT coalesce(max(applied), 0) FROM collections")
    print("in Chroma at each kill:", applied)
    assert len(set(applied)) > 2, "killed while the index grew"

    server = ServerProcess(tmp_path, model_dir, "--embedder", "wordllama", module="tests.every_account")
    try:
        keep_publishing(Caller(server.address, email, api_key), made).join(120)
        behind = """SELECT (SELECT count(*) FROM waiting)
                    + (SELECT max(id) FROM vectors) - (SELECT max(applied) FROM collections)"""
        wait_until(lambda: looked_up(tmp_path, behind) == [0], "the index", 120)
        assert server.terminate() == 0
    finally:
        if server.process.poll() is None:
            server.kill()

    rows = looked_up(tmp_path, "SELECT id FROM interactions ORDER BY id")
    assert len(rows) == REQUESTS * TURNS
    assert looked_up(tmp_path, "SELECT interaction_ref FROM vectors ORDER BY interaction_ref") == rows, "one each"
    database = Database(tmp_path, owner=False)
    with database.read() as conn:
        model = conn.exec_driver_sql("SELECT model FROM collections").scalar_one()
        (live,) = collections.live_collections(conn, model)
        expected = expected_of(conn, live)
        wanted = vectors.applied_stamps(conn, live.account_id, model, live.applied).tolist()
    database.close()
    folder = chroma_folder.newest_folder(tmp_path / "chroma")
    assert folder
    assert problem_of(folder, [expected]) is None, "each vector is the right one"
    index = ChromaIndex(folder)
    present = index.stamps(live.name).tolist()
    index.close()
    assert (len(set(wanted) - set(present)), len(set(present) - set(wanted))) == (0, 0), "missing, extra"
    assert present == wanted


def looked_up(data_dir: Path, query: str) -> list[int]:
    """A column, seen from outside of the server."""
    return [value for (value,) in rows(data_dir, query)]
