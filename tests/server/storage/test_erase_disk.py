"""What was erased is nowhere in the data directory soon after, and a kill on the way leaves nothing half."""

import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import settling
from reflexio_server.storage.database import DATABASE_FILE
from tests.soundness import faults
from tests.state import found_in, is_settled
from tests.support import Caller, LocalServer, ServerProcess, create_account, log_in
from tests.wire import everything, publish, seeded, wait_until
from tests.words import Words, use

pytestmark = pytest.mark.sqlite  # what is overwritten in its file

Say = noun.InteractionData
FIELDS = ("user", "group", "source", "version", "role", "said", "described", "image")
KILLS = 5


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    use(monkeypatch, Words())
    monkeypatch.setattr(settling, "QUIET_SECONDS", 0.3)
    return start()


class Canaries:
    """Texts that stand nowhere else, in every field that tells of somebody."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self.made: list[str] = []

    def new(self, kind: str) -> str:
        self.made.append(f"zq{kind}{self._source.randbytes(6).hex()}")
        return self.made[-1]

    def publish(self, caller: Caller, request_id: str, **fixed: str) -> list[str]:
        """A request full of them: its interactions' ids."""
        items = [
            Say(
                role=self.new("role"),
                content=f"I say {self.new('said')} and more {'words ' * self._source.choice((1, 30, 3000))}",
                user_action_description=self.new("described"),
                interacted_image_url=f"https://example.com/{self.new('url')}",
                image=b"\x89PNG\r\n\x1a\n" + self._source.randbytes(9000) + self.new("image").encode(),
            )
            for _ in range(3)
        ]
        fields = {
            "user_id": fixed.get("user_id") or f"{self.new('user')}@example.com",
            "request_group": fixed.get("request_group") or self.new("group"),
        }
        stored = publish(
            caller,
            fields.pop("user_id"),
            *items,
            request_id=request_id,
            source=self.new("source"),
            agent_version=self.new("version"),
            **fields,
        )
        return list(stored.interaction_ids)


def erase_all(caller: Caller, canaries: Canaries) -> None:
    """By each of the four calls."""
    for one in canaries.publish(caller, "by interaction"):
        caller.delete_interaction(one)
    canaries.publish(caller, "by request")
    caller.delete_request("by request")
    user, group = f"{canaries.new('user')}@example.com", canaries.new("group")
    for number in range(5):
        canaries.publish(caller, f"by group {number}", user_id=user, request_group=group)
    caller.delete_request_group(user, group)
    user = f"{canaries.new('user')}@example.com"
    for number in range(5):
        canaries.publish(caller, f"by user {number}", user_id=user)
    caller.search(user_id=user, query="what do I say?")
    caller.delete_user(user)


def test_nothing_of_it_is_left_on_disk(server: LocalServer) -> None:
    source = seeded()
    caller = server.new_caller()
    bystander, gone = Canaries(source), Canaries(source)
    for number in range(20):
        bystander.publish(caller, f"before {number}")
    kept = gone.publish(caller, "a part")
    in_part = [
        text for text in gone.made if any(kind in text for kind in ("said", "described", "url", "image", "role"))
    ]
    assert set(found_in(server.data_dir, in_part)) == set(in_part), "else this would not find what is left either"
    for one in kept[1:]:
        caller.delete_interaction(one)
    gone.made = in_part[len(in_part) // 3 :]
    erase_all(caller, gone)
    for number in range(20):
        bystander.publish(caller, f"after {number}")
    wait_until(lambda: is_settled(server), "what was erased to be overwritten")
    assert len(gone.made) > 200
    assert found_in(server.data_dir, gone.made) == {}
    assert set(found_in(server.data_dir, bystander.made)) == set(bystander.made)
    assert faults(server.data_dir) == {}
    server.stop()
    assert found_in(server.data_dir, gone.made) == {}


def test_it_leaves_memory_too(server: LocalServer) -> None:
    caller = server.new_caller()
    for user in ("ann", "bob"):
        caller.publish(user, "a grey kitten", "a dog")
        assert caller.search(user_id=user, query="kitten").hits
    assert len(server.app.cache._entries) == 2
    caller.delete_user("ann")
    wait_until(lambda: is_settled(server), "it to settle")
    assert len(server.app.cache._entries) == 1


def test_a_stop_does_not_wait_for_it_to_settle_and_a_start_goes_on(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words())
    server = start()
    caller, canaries = server.new_caller(), Canaries(seeded())
    erase_all(caller, canaries)
    copy = server.data_dir.with_name("killed")
    shutil.copytree(server.data_dir, copy)  # what a kill would leave, here
    server.stop()
    assert found_in(server.data_dir, canaries.made) == {}, "stopped in order, it settles on the way"
    assert found_in(copy, canaries.made), "killed before it settled"
    monkeypatch.setattr(settling, "QUIET_SECONDS", 0.0)
    again = start(copy)
    wait_until(lambda: is_settled(again), "the start to go on")
    assert found_in(copy, canaries.made) == {}


def test_it_settles_while_others_publish_and_read(server: LocalServer) -> None:
    """A snapshot that is being read holds the log up; then it is tried again.

    New vectors meanwhile: what Chroma writes of its memory must not hold what the process freed before.
    """
    caller, canaries = server.new_caller(), Canaries(seeded())
    stop = threading.Event()

    def keep_publishing() -> None:
        while not stop.is_set():
            caller.publish("bob", "hello there")

    thread = threading.Thread(target=keep_publishing)
    thread.start()
    try:
        with server.app.database.read() as conn:
            conn.exec_driver_sql("SELECT count(*) FROM users").scalar_one()
            erase_all(caller, canaries)
            time.sleep(1.5)
            assert not is_settled(server), "the snapshot still shows it"
        wait_until(lambda: is_settled(server), "it to settle")
    finally:
        stop.set()
        thread.join()
    wait_until(lambda: found_in(server.data_dir, canaries.made) == {}, "nothing to be left")


@pytest.mark.timeout(300)
def test_a_server_killed_while_it_erases_leaves_nothing_half(tmp_path: Path, model_dir: Path) -> None:
    pytest.importorskip("wordllama", reason="the extra wordllama, which embeds quickly, is not installed")
    source = seeded()
    email = create_account(tmp_path)
    api_key = ""
    left: list[int] = []
    canaries = Canaries(source)
    for number in range(KILLS + 1):
        server = ServerProcess(tmp_path, model_dir, "--embedder", "wordllama")
        try:
            api_key = api_key or log_in(server.address, email).api_key
            caller = Caller(server.address, email, api_key)
            if not number:
                fill(caller, canaries)
            if number < KILLS:
                call = threading.Thread(target=erase, args=(caller,))
                before = interactions_in(tmp_path)
                call.start()
                wait_until(
                    lambda: not call.is_alive() or interactions_in(tmp_path) < before,  # noqa: B023
                    "the first step",
                )
                time.sleep(source.uniform(0, 0.05))
                server.kill()
                call.join(60)
                assert faults(tmp_path) == {}, f"after kill {number}"
                left.append(interactions_in(tmp_path))
            else:
                erase(caller)
                assert [item.user_id for item in everything(caller)] == ["bob"] * 3
                verdict = caller.stream(requests())
                assert {one.reason for one in verdict.rejections} == {"REQUEST_ERASED"}
                assert server.terminate() == 0
        finally:
            if server.process.poll() is None:
                server.kill()
    print("interactions left at each kill:", left)
    assert len(set(left)) > 2, "killed while it erased"
    assert faults(tmp_path) == {}
    assert found_in(tmp_path, canaries.made) == {}
    assert found_in(tmp_path, ["zqturn"]) == {}


def interactions_in(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        return int(conn.execute("SELECT count(*) FROM interactions").fetchone()[0])


def requests() -> list[pb.PublishInteractionsRequest]:
    return [
        pb.PublishInteractionsRequest(
            user_id="ann",
            request_id=f"r{number}",
            interactions=[Say(content=f"zqturn {number} {step} of a long talk") for step in range(30)],
        )
        for number in range(300)
    ]


def fill(caller: Caller, canaries: Canaries) -> None:
    for number in range(20):
        canaries.publish(caller, f"full {number}", user_id="ann")
    assert caller.stream(requests()).requests.stored == 300
    publish(caller, "bob", *[Say(content=f"bob's {number}") for number in range(3)])


def erase(caller: Caller) -> None:
    """Erase all of ann's, unless the server dies meanwhile or has done it before."""
    try:
        caller.delete_user("ann")
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)
