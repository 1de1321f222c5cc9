"""What was acknowledged survives SIGKILL at any moment, and SIGTERM breaks no call off."""

import os
import queue
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.accounts import new_account
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import DATABASE_FILE, Database, own
from tests.support import PASSWORD, Caller, ServerProcess, failure_of, log_in
from tests.wire import wait_until

pytestmark = pytest.mark.sqlite  # its file on a disk that loses power

SEED = random.SystemRandom().randrange(1_000_000)
KILLS = 5
EMAIL = "durable@example.com"
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10"
LONG = "the cat sat on the mat and looked out of the window at the rain " * 200  # eight chunks to embed


@pytest.fixture
def start(tmp_path: Path, model_dir: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start a server in a process of its own, on the test's folder; what still runs at the end is killed."""
    with own(tmp_path):
        database = Database(tmp_path, owner=True)
        with database.write() as conn:
            add_account(conn, *new_account(EMAIL, PASSWORD), 1)
        database.close()
    started: list[ServerProcess] = []

    def run(*arguments: str) -> ServerProcess:
        started.append(ServerProcess(tmp_path, model_dir, *arguments))
        return started[-1]

    yield run
    for server in started:
        if server.process.poll() is None:
            server.kill()


def request(
    request_id: str, *contents: str, user_id: str = "user", image: bytes = b""
) -> pb.PublishInteractionsRequest:
    items = [noun.InteractionData(content=content, image=image) for content in contents]
    return pb.PublishInteractionsRequest(user_id=user_id, request_id=request_id, interactions=items)


def picture(number: int, size: int = 20_000) -> bytes:
    return PNG + random.Random(number).randbytes(size)


def everything(caller: Caller, **fields: Any) -> list[noun.Interaction]:
    """All interactions of the account, the oldest first."""
    found: list[noun.Interaction] = []
    token = ""
    while True:
        page = caller.get(page_size=1000, page_token=token, order=pb.ORDER_OLDEST_FIRST, **fields)
        found += page.interactions
        token = page.next_page_token
        if not token:
            return found


def check_sequence(stored: list[noun.Interaction]) -> None:
    assert sorted(item.sequence for item in stored) == list(range(1, len(stored) + 1)), "neither gaps nor repeats"
    assert len({item.interaction_id for item in stored}) == len(stored)


def full_picture(caller: Caller, interaction_id: str) -> bytes:
    parts = caller.interactions.GetImage(
        pb.GetImageRequest(interaction_id=interaction_id), metadata=caller.metadata, timeout=30
    )
    return b"".join(part.data for part in parts)


def test_what_was_acknowledged_is_there_after_a_kill(start: Callable[..., ServerProcess]) -> None:
    server = start()
    caller = log_in(server.address, EMAIL)
    sent = [request(f"unary {i}", *(f"first {i} {j}" for j in range(20)), user_id=f"u{i % 3}") for i in range(10)]
    sent.append(request("pictures", "one picture", "the same again", image=picture(1)))
    sent.append(request("large picture", "large", image=picture(2, 5_000_000)))
    sent.append(request("cat", "My cat sleeps on the sofa all day long", user_id="u9"))
    acknowledged: dict[str, list[str]] = {}
    for one in sent:
        answer = caller.interactions.PublishInteractions(one, metadata=caller.metadata, timeout=30)
        acknowledged[one.request_id] = list(answer.interaction_ids)
    streamed = [
        request(f"stream {i}", f"second {i}", f"third {i}", image=picture(i) if i % 50 == 0 else b"")
        for i in range(200)
    ]
    verdict = caller.stream(streamed)
    server.kill()
    assert (verdict.end_reason, verdict.requests.stored) == (pb.END_REASON_COMPLETE, 200)

    server = start()
    caller = Caller(server.address, EMAIL, caller.api_key)
    stored = everything(caller, include_images=True)
    expected = [(one.request_id, item) for one in (*sent, *streamed) for item in one.interactions]
    assert [(item.request_id, item.content) for item in stored] == [(name, item.content) for name, item in expected]
    check_sequence(stored)
    for request_id, ids in acknowledged.items():
        assert [item.interaction_id for item in stored if item.request_id == request_id] == ids
    for found, (_, item) in zip(stored, expected, strict=True):
        if found.image.data_omitted:
            assert full_picture(caller, found.interaction_id) == item.image
        else:
            assert found.image.data == item.image

    wait_until(lambda: caller.search(query="anything").unindexed_count == 0, "all vectors")
    best = caller.search(query="a feline napping on the couch").hits[0]
    assert best.interaction.content == "My cat sleeps on the sofa all day long"
    assert best.semantic > 0.5


def test_a_stream_that_is_killed_has_kept_a_prefix_and_can_be_sent_again(start: Callable[..., ServerProcess]) -> None:
    server = start()
    caller = log_in(server.address, EMAIL)
    sent = [request(f"r{i:05}", *(f"{i} {j}" for j in range(3))) for i in range(20_000)]
    messages = (pb.PublishInteractionStreamRequest(request=one) for one in sent)
    call = caller.interactions.PublishInteractionStream.future(messages, metadata=caller.metadata, timeout=60)
    wait_until(lambda: len(caller.get(page_size=100).interactions) == 100, "the first part of the stream")
    server.kill()
    assert isinstance(call.exception(30), grpc.RpcError), "killed too late to be of use"

    server = start()
    caller = Caller(server.address, EMAIL, caller.api_key)
    kept = everything(caller)
    check_sequence(kept)
    whole, rest = divmod(len(kept), 3)
    assert rest == 0, "a request is stored whole or not at all"
    assert 0 < whole < len(sent)
    prefix = [(one.request_id, item.content) for one in sent[:whole] for item in one.interactions]
    assert [(item.request_id, item.content) for item in kept] == prefix

    again = sent[: whole + 500]
    verdict = caller.stream(again)
    assert (verdict.requests.duplicate, verdict.requests.stored) == (whole, 500)
    assert (verdict.interactions.duplicate, verdict.interactions.stored) == (3 * whole, 1500)
    assert verdict.end_reason == pb.END_REASON_COMPLETE
    stored = everything(caller)
    check_sequence(stored)
    assert [item.interaction_id for item in stored[: len(kept)]] == [item.interaction_id for item in kept]
    assert [item.request_id for item in stored] == [one.request_id for one in again for _ in range(3)]


@dataclass
class Oracle:
    """What was sent, what of it was acknowledged with which ids, and what must be sent again."""

    sent: dict[str, pb.PublishInteractionsRequest] = field(default_factory=dict)
    acknowledged: dict[str, list[str] | None] = field(default_factory=dict)  # None: by a stream, without ids
    unanswered: "queue.SimpleQueue[list[pb.PublishInteractionsRequest]]" = field(default_factory=queue.SimpleQueue)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, chosen: random.Random, count: int) -> list[pb.PublishInteractionsRequest]:
        """Requests to send: those that got no answer first."""
        try:
            return self.unanswered.get_nowait()
        except queue.Empty:
            pass
        with self.lock:
            new = []
            for _ in range(count):
                name = f"request {len(self.sent)}"
                contents = [f"{name} item {item}" for item in range(chosen.randint(1, 4))]
                image = picture(len(self.sent), 3000) if chosen.random() < 0.1 else b""
                self.sent[name] = request(name, *contents, user_id=f"u{chosen.randrange(5)}", image=image)
                new.append(self.sent[name])
            return new

    def check(self, stored: list[noun.Interaction]) -> None:
        """Nothing acknowledged is lost, nothing is there twice or in part, nothing was invented."""
        check_sequence(stored)
        by_request: dict[str, list[noun.Interaction]] = {}
        for item in stored:
            by_request.setdefault(item.request_id, []).append(item)
        lost = self.acknowledged.keys() - by_request.keys()
        assert not lost
        for name, items in by_request.items():
            one = self.sent[name]
            items.sort(key=lambda item: item.sequence)
            assert [item.content for item in items] == [item.content for item in one.interactions]
            assert [item.image.size_bytes for item in items] == [len(item.image) for item in one.interactions]
            ids = self.acknowledged.get(name)
            assert ids is None or [item.interaction_id for item in items] == ids


def write_until_killed(caller: Caller, oracle: Oracle, seed: int, streams: bool) -> None:
    chosen = random.Random(seed)
    while True:
        batch = oracle.next(chosen, 30 if streams else 1)
        try:
            if streams:
                verdict = caller.stream(batch)
                assert verdict.requests.stored + verdict.requests.duplicate == len(batch)
                for one in batch:
                    oracle.acknowledged.setdefault(one.request_id, None)
            else:
                for one in batch:
                    answer = caller.interactions.PublishInteractions(one, metadata=caller.metadata, timeout=30)
                    oracle.acknowledged[one.request_id] = list(answer.interaction_ids)
        except grpc.RpcError as error:
            if failure_of(error).code is not grpc.StatusCode.UNAVAILABLE:
                raise
            oracle.unanswered.put(batch)
            return


def test_kills_at_any_moment_lose_and_double_nothing(start: Callable[..., ServerProcess]) -> None:
    print(f"seed {SEED}")
    chosen = random.Random(SEED)
    oracle = Oracle()
    api_key = ""
    for kill in range(KILLS):
        server = start()
        api_key = api_key or log_in(server.address, EMAIL).api_key
        before = len(oracle.acknowledged)
        with ThreadPoolExecutor(8) as pool:
            callers = [Caller(server.address, EMAIL, api_key) for _ in range(8)]
            writers = [
                pool.submit(write_until_killed, caller, oracle, SEED + 100 * kill + number, number >= 6)
                for number, caller in enumerate(callers)
            ]
            wait_until(lambda: len(oracle.acknowledged) > before, "the first acknowledgement")  # noqa: B023
            time.sleep(chosen.uniform(0.05, 1))
            server.kill()
            for writer in writers:
                writer.result(60)
    server = start()
    caller = Caller(server.address, EMAIL, api_key)
    stored = everything(caller)
    print(f"{len(oracle.acknowledged)} requests acknowledged, {len(stored)} interactions stored")
    assert len(oracle.acknowledged) > 100
    oracle.check(stored)
    while not oracle.unanswered.empty():
        verdict = caller.stream(oracle.unanswered.get())
        assert not verdict.requests.rejected
    stored = everything(caller)
    oracle.check(stored)
    assert {item.request_id for item in stored} == set(oracle.sent)


def test_kills_while_it_starts_leave_a_folder_that_starts(
    tmp_path: Path, model_dir: Path, start: Callable[..., ServerProcess]
) -> None:
    """On a new folder and on one with an index that has to be checked."""
    print(f"seed {SEED}")
    chosen = random.Random(SEED)
    server = start()
    caller = log_in(server.address, EMAIL)
    caller.publish("u", *(f"text {i}" for i in range(150)))
    wait_until(lambda: caller.search(query="text").unindexed_count == 0, "all vectors")
    server.kill()
    new = tmp_path / "new"
    for folder in (new, tmp_path):
        command = [sys.executable, "-m", "reflexio_server", "serve", "--port", "0"]
        command += ["--data-dir", str(folder), "--model-dir", str(model_dir)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            time.sleep(chosen.uniform(0.7, 2.5))
            process.kill()
    server = start("--log-level", "info")
    caller = Caller(server.address, EMAIL, caller.api_key)
    assert len(everything(caller)) == 150
    wait_until(lambda: any("Chroma index is in order" in line for line in server.lines), "the check")
    fresh = ServerProcess(new, model_dir)
    assert fresh.terminate() == 0


def health(address: str) -> str:
    """What the health service answers, or the status of the failed call."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the stub's type knows no methods
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
        except grpc.RpcError as error:
            return failure_of(error).code.name
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def is_refused(address: str) -> bool:
    """Whether nobody accepts connections there any more."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 10).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it is being closed
        return False
    return False


def rows(data_dir: Path) -> int:
    with sqlite3.connect(data_dir / DATABASE_FILE) as conn:
        (count,) = conn.execute("SELECT count(*) FROM interactions").fetchone()
    conn.close()
    return int(count)


class OpenStream:
    """A stream of some requests that the client does not close."""

    def __init__(self, caller: Caller, requests: list[pb.PublishInteractionsRequest]) -> None:
        self._over = threading.Event()
        self._requests = requests
        self._call = caller.interactions.PublishInteractionStream.future(
            self._messages(), metadata=caller.metadata, timeout=60
        )

    def _messages(self) -> Iterator[pb.PublishInteractionStreamRequest]:
        for one in self._requests:
            yield pb.PublishInteractionStreamRequest(request=one)
        self._over.wait(60)

    def verdict(self) -> pb.PublishInteractionStreamResponse:
        try:
            answer: pb.PublishInteractionStreamResponse = self._call.result(30)
        finally:
            self._over.set()
        return answer


def start_waiting(pool: ThreadPoolExecutor, caller: Caller, name: str, *contents: str) -> Any:
    """Publish and wait until it is searchable, in the background."""
    one = request(name, *contents)
    one.wait_until = pb.WAIT_UNTIL_SEARCHABLE
    return pool.submit(caller.interactions.PublishInteractions, one, metadata=caller.metadata, timeout=120)


def test_sigterm_lets_calls_finish_and_ends_with_0(tmp_path: Path, start: Callable[..., ServerProcess]) -> None:
    server = start("--grace-seconds", "60")
    caller = log_in(server.address, EMAIL)
    assert health(server.address) == "SERVING"
    stream = OpenStream(caller, [request(f"s{i}", f"streamed {i}") for i in range(10)])
    with ThreadPoolExecutor(4) as pool:
        calls = [start_waiting(pool, caller, f"r{i}", *[f"{i} {j} {LONG}" for j in range(3)]) for i in range(4)]
        wait_until(lambda: rows(tmp_path) == 22, "all calls to be in flight")
        assert not any(call.done() for call in calls), "too quick to be of use"
        said: list[str] = []

        def says_so() -> bool:
            said.append(health(server.address))
            return said[-1] != "SERVING"

        server.process.send_signal(signal.SIGTERM)
        wait_until(says_so, "health to say so")
        answers = [call.result(60) for call in calls]
    # gRPC cancels a call that comes in the very moment of the stop; it was not handled.
    assert said[-1] in ("NOT_SERVING", "UNAVAILABLE", "CANCELLED")
    assert all(answer.searchable for answer in answers)
    verdict = stream.verdict()
    assert (verdict.end_reason, verdict.requests.stored) == (pb.END_REASON_DRAINING, 10)
    assert server.wait() == 0
    assert health(server.address) == "UNAVAILABLE"
    assert server.lines[-1].rstrip().endswith("stopped")
    assert not any("ERROR" in line or "Traceback" in line for line in server.lines)
    assert list((tmp_path / "chroma").glob("*.closed"))

    server = start()
    stored = everything(Caller(server.address, EMAIL, caller.api_key))
    check_sequence(stored)
    assert len(stored) == 22
    for answer in answers:
        assert [
            item.interaction_id for item in stored if item.request_id == answer.request_id
        ] == answer.interaction_ids


def test_during_the_drain_new_calls_are_refused_so_that_they_can_be_repeated(
    tmp_path: Path, start: Callable[..., ServerProcess]
) -> None:
    server = start("--grace-seconds", "60")
    caller = log_in(server.address, EMAIL)
    with ThreadPoolExecutor(1) as pool:
        call = start_waiting(pool, caller, "long", *[f"{i} {LONG}" for i in range(10)])
        wait_until(lambda: rows(tmp_path) == 10, "the call to be in flight")
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: is_refused(server.address), "the drain")
        assert server.process.poll() is None
        assert health(server.address) == "UNAVAILABLE"
        with pytest.raises(grpc.RpcError) as refused:
            caller.publish("user", "too late", request_id="late")
        assert failure_of(refused.value).code is grpc.StatusCode.UNAVAILABLE
        assert call.result(60).searchable
    assert server.wait() == 0
    assert rows(tmp_path) == 10


def test_a_second_sigterm_ends_at_once(tmp_path: Path, start: Callable[..., ServerProcess]) -> None:
    server = start("--grace-seconds", "60")
    caller = log_in(server.address, EMAIL)
    with ThreadPoolExecutor(1) as pool:
        call = start_waiting(pool, caller, "long", *[f"{i} {LONG}" for i in range(500)])
        wait_until(lambda: rows(tmp_path) == 500, "the call to be in flight")
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 128 + signal.SIGTERM
        assert time.monotonic() - began < 5
        assert isinstance(call.exception(30), grpc.RpcError)
    assert rows(tmp_path) == 500


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_calls_that_outlast_the_grace_do_not_hold_the_server(
    tmp_path: Path, start: Callable[..., ServerProcess], number: signal.Signals
) -> None:
    server = start("--grace-seconds", "0.5")
    caller = log_in(server.address, EMAIL)
    stream = OpenStream(caller, [request("s", "streamed")])
    with ThreadPoolExecutor(1) as pool:
        call = start_waiting(pool, caller, "long", *[f"{i} {LONG}" for i in range(500)])
        wait_until(lambda: rows(tmp_path) == 501, "the calls to be in flight")
        began = time.monotonic()
        os.kill(server.process.pid, number)
        assert server.wait() == 0
        assert time.monotonic() - began < 20
        assert isinstance(call.exception(30), grpc.RpcError), "it was broken off"
    assert stream.verdict().end_reason == pb.END_REASON_DRAINING
    assert rows(tmp_path) == 501
    assert any(line.rstrip().endswith("stopped") for line in server.lines)  # a call's own line may come after it
    assert not any("Traceback" in line for line in server.lines)
