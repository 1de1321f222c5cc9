"""Several servers: calls take turns among those that serve, and connections that end cost nothing.

Two servers cannot share a store, so those here have copies of one: the same accounts and keys, and from then on each
what it was given.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2

import reflexio
from reflexio.channel import parse_url
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.errors import TooBusy
from reflexio_server.rpc import health
from tests.client.scripted_server import KEY, ScriptedServer
from tests.command import run, said
from tests.state import copy_store
from tests.support import Caller, LocalServer, ServerProcess
from tests.wire import OpenStream, code_of, everything, wait_until
from tools.relay import Relay

Start = Callable[..., LocalServer]
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NOBODY = "127.0.0.1:1"
ROUNDS = 60


def url_of(*addresses: str) -> str:
    return f"http://{','.join(addresses)}/"


def set_health(server: LocalServer, status: int) -> None:
    server.app._set_health(status, "")


def copies(folder: Path, model_dir: Path, *names: str) -> str:
    """Folders of data with one account, whose key this is; its user `who` has said in each the folder's name."""
    server = LocalServer(folder / names[0], model_dir)
    caller = server.new_caller()
    server.stop()
    for name in names[1:]:
        copy_store(folder / names[0], folder / name)
    for name in names:
        server = LocalServer(folder / name, model_dir)
        Caller(server.address, caller.email, caller.api_key).publish("who", name)
        server.stop()
    return caller.api_key


def answering(client: reflexio.ReflexioClient, calls: int = ROUNDS) -> Counter[str]:
    """Which servers answered how many calls."""
    return Counter(client.get_interactions(user_id="who").interactions[0].content for _ in range(calls))


def test_calls_take_turns_among_the_servers_that_serve(start: Start, tmp_path: Path, model_dir: Path) -> None:
    key = copies(tmp_path, model_dir, "one", "two")
    one, two = start(tmp_path / "one"), start(tmp_path / "two")
    with reflexio.ReflexioClient(key, url_of(one.address, two.address)) as client:
        wait_until(lambda: len(answering(client, 2)) == 2, "connections to both")
        assert answering(client) == {"one": ROUNDS / 2, "two": ROUNDS / 2}

        set_health(one, NOT_SERVING)
        wait_until(lambda: set(answering(client, 2)) == {"two"}, "the word to arrive")
        assert answering(client) == {"two": ROUNDS}

        set_health(one, SERVING)
        wait_until(lambda: len(answering(client, 2)) == 2, "its turn")

        two.stop()
        assert answering(client) == {"one": ROUNDS}


def test_a_client_with_awaited_calls_takes_turns_too(start: Start, tmp_path: Path, model_dir: Path) -> None:
    key = copies(tmp_path, model_dir, "one", "two")
    url = url_of(*(start(tmp_path / name).address for name in ("one", "two")))

    async def ask() -> None:
        async with reflexio.AsyncReflexioClient(key, url) as client:
            seen: set[str] = set()
            while len(seen) < 2:
                page = await client.get_interactions(user_id="who")
                seen.add(page.interactions[0].content)

    asyncio.run(asyncio.wait_for(ask(), 60))


@contextlib.contextmanager
def calling(
    client: reflexio.ReflexioClient, failures: list[str], *, reads_only: bool = False
) -> Iterator[Counter[str]]:
    """Threads that read, search and publish all the time; which servers have answered reads since it was cleared."""
    over = threading.Event()
    answered: Counter[str] = Counter()

    def read() -> None:
        answered[client.get_interactions(user_id="who").interactions[0].content] += 1

    def work(call: Callable[[], Any]) -> None:
        while not over.wait(0.02):
            try:
                call()
            except reflexio.ReflexioError as error:
                failures.append(f"{type(error).__name__}: {error}")

    calls: Sequence[Callable[[], Any]] = (
        read,
        lambda: client.search_interactions(user_id="who", query="which"),
        lambda: client.publish_interaction("u", [{"content": "x"}], wait_for_response=True),
    )
    threads = [threading.Thread(target=work, args=(call,)) for call in (calls[:1] if reads_only else calls)]
    for one in threads:
        one.start()
    try:
        yield answered
    finally:
        over.set()
        for one in threads:
            one.join(60)


def test_no_call_fails_while_servers_are_killed_and_stopped(tmp_path: Path, model_dir: Path) -> None:
    key = copies(tmp_path, model_dir, "one", "two")
    servers: list[ServerProcess] = []

    def serve(name: str, like: ServerProcess | None = None) -> ServerProcess:
        port = like.address.rpartition(":")[2] if like else "0"
        servers.append(ServerProcess(tmp_path / name, model_dir, "--port", port))
        return servers[-1]

    def wait_for(*names: str, calls: int = 20) -> None:
        answered.clear()
        wait_until(lambda: all(answered[name] >= calls for name in names), f"answers of {names}")

    failures: list[str] = []
    try:
        one, two = serve("one"), serve("two")
        url = url_of(one.address, two.address)
        with reflexio.ReflexioClient(key, url) as client, calling(client, failures) as answered:
            wait_for("one", "two")
            two.kill()
            wait_for("one")
            two = serve("two", like=two)
            wait_for("one", "two")
            assert one.terminate() == 0
            wait_for("two")
            serve("one", like=one)
            wait_for("one", "two")
            two.kill()
            wait_for("one")
        assert failures == []
    finally:
        for server in servers:
            server.kill()


def test_while_nobody_serves_publishes_wait_and_the_rest_says_so(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    url = url_of(server.address, NOBODY)
    with reflexio.ReflexioClient(caller.api_key, url) as client:
        client.who_am_i()
        set_health(server, NOT_SERVING)

        def refused() -> bool:
            try:
                client.who_am_i()
            except reflexio.UnavailableError as error:
                return "is not available" in str(error) and server.address in str(error)
            return False

        wait_until(refused, "the word to arrive")
        receipt = client.publish_interaction("u", [{"content": "later"}])
        waited: list[reflexio.PublishUserInteractionResponse] = []
        waiting = threading.Thread(
            target=lambda: waited.append(
                client.publish_interaction("u", [{"content": "waited for"}], wait_for_response=True, timeout=60)
            )
        )
        waiting.start()
        with pytest.raises(reflexio.DeadlineExceededError):
            receipt.wait(1)
        assert waiting.is_alive()
        set_health(server, SERVING)
        assert receipt.wait(60).message == "stored"
        waiting.join(60)
        assert [one.success for one in waited] == [True]
    assert Counter(one.content for one in everything(caller)) == {"later": 1, "waited for": 1}


def test_a_server_without_a_health_service_serves() -> None:
    server = ScriptedServer()
    server.start()
    try:
        with reflexio.ReflexioClient(KEY, url_of(server.url.removeprefix("http://").strip("/"), NOBODY)) as client:
            assert client.who_am_i().account.email == "a@b.c"
    finally:
        server.stop()


def test_a_call_waits_while_a_crowded_server_does_not_tell_its_health(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start()
    caller = server.new_caller()
    watch, refused = health.Health.Watch, iter(range(3))

    def crowded(*arguments: Any) -> None:
        if next(refused, None) is not None:
            raise TooBusy("calls waiting")
        watch(*arguments)

    crowded.experimental_non_blocking = True  # type: ignore[attr-defined]
    monkeypatch.setattr(health.Health, "Watch", crowded)
    server.app.stop()
    again = start(server.data_dir)
    one_of_a_name = replace(parse_url(url_of(again.address)), balanced=True)
    monkeypatch.setattr("reflexio.base.parse_url", lambda *_: one_of_a_name)
    with reflexio.ReflexioClient(caller.api_key) as client:
        assert client.who_am_i(timeout=60).account.email == caller.email
    assert next(refused, None) is None


def test_watching_takes_no_place_of_calls_and_streams(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(workers=20, max_streams=2)
    caller = server.new_caller()
    monkeypatch.setattr(health, "MOST_WATCHERS", 50)
    with contextlib.ExitStack() as opened:
        for _ in range(60):  # the last ten are not watched, and called all the same
            client = reflexio.ReflexioClient(caller.api_key, url_of(server.address, NOBODY))
            opened.enter_context(client)
            client.who_am_i()
        assert len(server.app._health._watchers) == 50
        stream = OpenStream(caller)
        stream.send("s_1")
        assert client.publish_many([{"user_id": "u", "interactions": [{"content": "x"}]}]).requests.stored == 1
        assert stream.close().requests.stored == 1


def test_a_name_stands_for_all_its_addresses(start: Start) -> None:
    name = socket.gethostname()
    with contextlib.suppress(OSError):
        socket.gethostbyname(name)
        server = start(host="0.0.0.0", insecure=True)
        caller = server.new_caller()
        url = f"http://{name}:{server.address.rpartition(':')[2]}/"
        with reflexio.ReflexioClient(caller.api_key, url, allow_insecure=True) as client:
            assert client.who_am_i().account.email == caller.email
            assert server.app._health._watchers
        return
    pytest.skip("the name of this machine has no address")


FORKING = """
import os, sys, time
import reflexio
client = reflexio.ReflexioClient(sys.argv[1], sys.argv[2])
client.who_am_i()
for number in range(8):
    client.publish_interaction("parent", [{"content": f"p{number}"}])
    child = os.fork()
    if not child:
        client.publish_interaction("child", [{"content": f"c{number}"}], wait_for_response=True)
        client.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.who_am_i()
client.close(30)
"""


def test_a_watched_connection_is_not_a_childs(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    command = [sys.executable, "-c", FORKING, caller.api_key, url_of(server.address, NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    expected = {f"{who}{number}": 1 for who in "pc" for number in range(8)}
    assert Counter(one.content for one in everything(caller)) == expected


@pytest.mark.parametrize("balanced", [False, True], ids=["one address", "several"])
def test_connections_that_end_every_second_lose_and_double_nothing(start: Start, balanced: bool) -> None:
    server = start(max_connection_age_seconds=1, max_connection_age_grace_seconds=4)
    caller = server.new_caller()
    with Relay(server.address) as relay:
        url = url_of(relay.address, *([NOBODY] if balanced else []))
        end = time.monotonic() + 6
        sent: Counter[str] = Counter()

        def slowly() -> Iterator[dict[str, Any]]:
            number = 0
            while time.monotonic() < end:
                for _ in range(250):
                    number += 1
                    sent[f"m_{number}"] = 1
                    yield {"user_id": "u", "request_id": f"m_{number}", "interactions": [{"content": "x"}]}
                time.sleep(0.05)

        failures: list[str] = []
        with reflexio.ReflexioClient(caller.api_key, url) as client:
            Caller(server.address, caller.email, caller.api_key).publish("who", "it", request_id="who")
            sent["who"] = 1
            outcome: list[Any] = []
            streaming = threading.Thread(target=lambda: outcome.append(client.publish_many(slowly())))
            streaming.start()
            number = 0
            while time.monotonic() < end:
                number += 1
                sent[f"o_{number}"] = 1
                client.publish_interaction("u", [{"content": "x"}], request_id=f"o_{number}")
                try:
                    client.get_interactions(user_id="who")
                except reflexio.ReflexioError as error:
                    failures.append(str(error))
            streaming.join(60)
            assert client.flush(60).delivered
            stats = client.stats()
        assert failures == []
        assert (stats.rejected, stats.dead) == (0, 0)
        assert outcome[0].requests.rejected == 0
        assert relay.connections >= 6, "two channels, for 6 s"
    assert Counter(one.request_id for one in everything(caller)) == sent


def test_a_stream_ends_with_its_verdict_before_its_connection_does(start: Start) -> None:
    server = start(max_connection_age_seconds=1, max_connection_age_grace_seconds=4)
    caller = server.new_caller()
    stored = 0
    for number in range(3):
        stream = OpenStream(caller)
        stream.send(f"s_{number}")
        verdict = stream.call.result(30)
        assert verdict.end_reason == pb.END_REASON_DRAINING
        stored += verdict.requests.stored
    assert len(everything(caller)) == stored == 3


def test_without_an_age_a_connection_and_its_streams_stay(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    stream = OpenStream(caller)
    stream.send("s_1")
    time.sleep(3)
    assert not stream.call.done()
    assert stream.close().end_reason == pb.END_REASON_COMPLETE


def test_two_servers_share_a_port_when_both_are_told_to(start: Start, tmp_path: Path, model_dir: Path) -> None:
    one = start(share_port=True)
    key = one.new_caller().api_key
    port = one.address.rpartition(":")[2]
    other = ServerProcess(tmp_path / "two", model_dir, "--share-port", "--port", port)
    try:

        def whose() -> set[bool]:
            """Whether the servers that 60 connections came to know the key."""
            return {knows(one.address, key) for _ in range(60)}

        assert whose() == {True, False}
        third = run("serve", "--port", port, "--data-dir", tmp_path / "three", "--model-dir", model_dir)
        assert f"cannot listen on 127.0.0.1:{port}" in said(third)
        one.stop()
        assert whose() == {False}
    finally:
        other.kill()


def test_a_new_server_gets_its_share_where_connections_end(tmp_path: Path, model_dir: Path) -> None:
    names = ("one", "two", "three")
    key = copies(tmp_path, model_dir, *names)
    servers: list[ServerProcess] = []
    failures: list[str] = []

    def serve(name: str) -> None:
        port = servers[0].address.rpartition(":")[2] if servers else "0"
        shared = ("--share-port", "--port", port, "--max-connection-age-seconds", "1")
        servers.append(ServerProcess(tmp_path / name, model_dir, *shared))

    try:
        serve("one")
        serve("two")
        with contextlib.ExitStack() as opened:
            clients = [reflexio.ReflexioClient(key, url_of(servers[0].address)) for _ in range(12)]
            for client in clients:
                opened.callback(client.close)
            counts = [opened.enter_context(calling(client, failures, reads_only=True)) for client in clients]

            def answered() -> Counter[str]:
                return sum((Counter(one) for one in counts), Counter())

            wait_until(lambda: len(answered()) == 2, "answers of two")
            serve("three")
            for one in counts:
                one.clear()
            wait_until(
                lambda: all(answered()[name] >= 0.1 * answered().total() > 0 for name in names),
                "a tenth of the calls for each",
            )
        assert failures == []
    finally:
        for server in servers:
            server.kill()


def knows(address: str, key: str) -> bool:
    """Whether the server that a new connection comes to knows a key."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        ask = auth_grpc.AuthServiceStub(channel).WhoAmI
        metadata = (("authorization", f"Bearer {key}"),)
        code = code_of(lambda: ask(auth_pb.WhoAmIRequest(), metadata=metadata, timeout=30, wait_for_ready=True))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
    return code is grpc.StatusCode.OK


def test_sharing_a_port_where_the_system_cannot_is_said(
    tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    arguments = ("serve", "--port", "0", "--data-dir", tmp_path, "--model-dir", model_dir)
    text = said(run(*arguments, "--share-port"))
    assert text == (
        "this system has no SO_REUSEPORT, which --share-port needs: give each server a port of its own (--port)"
    )
