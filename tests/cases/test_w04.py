"""W4: the bytes of messages in flight are bounded over all accounts."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.errors import TooBusy
from reflexio_server.rpc.budget import Budget
from reflexio_server.storage.database import DATABASE_FILE
from tests.support import LocalServer, ServerProcess, create_account, log_in
from tests.wire import MIB, blocked_writer, everything, say, wait_until
from tools.server_process import PeakMemory


@pytest.mark.sqlite
def test_many_large_publishes_at_once_take_bounded_memory(tmp_path: Path, model_dir: Path) -> None:
    emails = [create_account(tmp_path, f"{name}@example.com") for name in ("one", "two")]
    server = ServerProcess(tmp_path, model_dir, "--no-indexing")
    try:
        callers = [log_in(server.address, email) for email in emails]
        items = [noun.InteractionData(image=bytes(7 * MIB)) for _ in range(2)]
        calls: list[Any] = []
        # Nothing is written for a moment, so that they are in flight together; for longer the writer would refuse them.
        held = sqlite3.connect(tmp_path / DATABASE_FILE, isolation_level=None, check_same_thread=False)
        with PeakMemory(server.process.pid) as peak:
            held.execute("BEGIN IMMEDIATE")
            threading.Timer(3, held.close).start()
            for number in range(32):
                for caller in callers:
                    request = pb.PublishInteractionsRequest(user_id="u", request_id=f"{number}", interactions=items)
                    publishing: Any = caller.interactions.PublishInteractions
                    calls.append(publishing.future(request, metadata=caller.metadata, timeout=120))
            codes = {call.code() for call in calls if call.exception(120) is not None}
        assert not codes, "who waits, waits"
        assert peak.above_before < 800, "64 messages of 15 MB, three times that when handled"
    finally:
        server.terminate()


def test_small_messages_pass_large_ones_that_wait(start: Callable[..., LocalServer]) -> None:
    """All room is taken by messages that do not come: the other account's is read all the same."""
    server = start(max_message_bytes=64 * 1024, max_image_bytes=1024, stream_idle_seconds=30)
    greedy, other = server.new_caller(), server.new_caller()
    everything(greedy)  # its key is known
    path = "/reflexio.v1.InteractionService/PublishInteractions"
    over = threading.Event()

    def never() -> Any:
        over.wait(60)
        yield from ()

    silent: Any = greedy.channel.stream_unary(path)
    calls = [silent.future(never(), metadata=greedy.metadata, timeout=60) for _ in range(30)]
    try:
        waiting = greedy.interactions.PublishInteractions.future(say("waits"), metadata=greedy.metadata, timeout=60)
        for number in range(5):
            other.publish("u", f"{number}")
        assert not waiting.done()
    finally:
        for call in calls:
            call.cancel()
        over.set()
    assert waiting.result(30).interaction_ids


def test_an_account_leaves_as_much_as_it_takes() -> None:
    budget = Budget(100)
    for account_id, fits in ((1, 5), (2, 3), (3, 1), (4, 1)):
        for _ in range(fits):
            budget.take(account_id, 10, lambda: True, 0)
        with pytest.raises(TooBusy):
            budget.take(account_id, 10, lambda: True, 0)
    with pytest.raises(TooBusy):
        budget.take(1, 10, lambda: False, 60)
    budget.take(5, 1_000, lambda: True, 0)  # whoever has none gets some


def test_room_goes_to_the_account_that_has_least() -> None:
    budget = Budget(40)
    came: list[int] = []
    for account_id, size in ((1, 10), (2, 10), (3, 20)):
        budget.take(account_id, size, lambda: True, 0)

    def wait(account_id: int) -> None:
        budget.take(account_id, 5, lambda: True, 60)
        came.append(account_id)

    threads = [threading.Thread(target=wait, args=(account_id,)) for account_id in (1, 2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(budget._waiting) == 2, "both to wait")
    budget.give_back(3, 5)
    budget.give_back(2, 6)  # 11 are free, enough for the second only, which holds 4
    threads[1].join(10)
    assert came == [2]
    budget.give_back(3, 10)
    threads[0].join(10)
    assert came == [2, 1]


def test_a_refused_message_says_so(start: Callable[..., LocalServer]) -> None:
    server = start(max_message_bytes=1024 * 1024, max_image_bytes=900_000, stream_idle_seconds=1)
    caller = server.new_caller()
    item = noun.InteractionData(image=bytes(800_000))
    with blocked_writer(server):
        calls: list[Any] = [
            caller.interactions.PublishInteractions.future(
                pb.PublishInteractionsRequest(user_id="u", request_id=f"{n}", interactions=[item]),
                metadata=caller.metadata,
                timeout=60,
            )
            for n in range(20)
        ]
        wait_until(lambda: any(call.done() for call in calls), "a refusal")
        refused = next(call for call in calls if call.done())
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stored = sum(call.exception(60) is None for call in calls)
    assert len(everything(caller)) == stored > 0
