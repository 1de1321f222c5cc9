"""F3, A12, F19 and questionable 34: on_delivery may raise anything and close the client, and cannot wait for itself."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

import reflexio
from reflexio.spool import Spool
from tests.client.scripted_server import KEY, ScriptedServer, eventually, make_key, verdict

Delivery = reflexio.Delivery


class Rude(BaseException):
    def __str__(self) -> str:
        raise SystemExit("not even a text")


RAISED: list[BaseException] = [
    SystemExit(3),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    GeneratorExit(),
    pytest.fail.Exception("of a test"),
    pytest.skip.Exception("of a test"),
    Rude(),
    StopIteration(),
    MemoryError(),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_it_raises_delivery_goes_on(
    scripted: ScriptedServer, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def told(delivery: Delivery) -> None:
        heard.append(delivery.request_id)
        raise error

    heard: list[str] = []
    scripted.script("PublishInteractionStream", verdict(0, 0, (0, "INVALID_FIELD")))
    with reflexio.ReflexioClient(KEY, scripted.url, on_delivery=told) as client:
        client.publish_interaction("u", [{"content": "refused"}])
        assert client.flush(20).delivered
        receipts = [client.publish_interaction("u", [{"content": str(i)}]) for i in range(3)]
        receipts.append(client.delete_user("u"))  # type: ignore[arg-type]
        assert client.flush(20).delivered
        assert all(receipt.done for receipt in receipts)
        eventually(lambda: len(heard) == 5)
        assert type(error).__name__ in client.stats().last_error
    assert sum("on_delivery failed" in record.getMessage() for record in caplog.records) == 5


def test_the_error_is_shown_until_it_returns(scripted: ScriptedServer) -> None:
    def told(_delivery: Delivery) -> None:
        if bad:
            raise SystemExit

    bad = [1]
    with reflexio.ReflexioClient(KEY, scripted.url, on_delivery=told) as client:
        client.publish_interaction("u", [{"content": "1"}]).wait(20)
        eventually(lambda: client.stats().last_error == "on_delivery raised SystemExit")
        bad.clear()
        client.publish_interaction("u", [{"content": "2"}]).wait(20)
        eventually(lambda: client.stats().last_error == "")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_it_may_close_the_client(scripted: ScriptedServer, kind: str) -> None:
    def told(_delivery: Delivery) -> None:
        if len(receipts) < 2:
            receipts.append(publish("2"))
            begin = time.monotonic()
            client.close(30) if kind == "sync" else asyncio.run(client.close(30))
            took.append(time.monotonic() - begin)
            client.close(30) if kind == "sync" else asyncio.run(client.close(30))

    def publish(content: str) -> Any:
        made = client.publish_interaction("u", [{"content": content}])
        return made if kind == "sync" else asyncio.run(made)

    receipts: list[Any] = []
    took: list[float] = []
    maker = reflexio.ReflexioClient if kind == "sync" else reflexio.AsyncReflexioClient
    client: Any = maker(KEY, scripted.url, on_delivery=told)
    receipts.append(publish("1"))
    eventually(lambda: len(took) == 1)
    assert took[0] < 5
    first, second = receipts
    assert first.done
    error = second._outcome.exception(5)
    assert isinstance(error, reflexio.ClosedError)
    assert "It is kept in" in str(error)
    (sender,) = client._all_senders()
    eventually(lambda: not sender._thread.is_alive())
    assert sender._dispatcher._channel is None
    assert sender.spool._files() == []
    with pytest.raises(reflexio.ClosedError):
        publish("3")
    with reflexio.ReflexioClient(KEY, scripted.url) as another:
        assert another.flush(20).delivered
    assert sorted(scripted.stored_contents()) == ["1", "2"]


def test_all_of_a_batch_is_settled_before_it_closes(scripted: ScriptedServer) -> None:
    scripted.stop()
    heard: list[tuple[str, bool]] = []

    def told(delivery: Delivery) -> None:
        heard.append((delivery.request_id, delivery.adopted))
        client.close(0)

    client = reflexio.ReflexioClient(KEY, scripted.url, on_delivery=told)
    receipts = [client.publish_interaction("u", [{"content": str(i)}]) for i in range(20)]
    eventually(lambda: client.stats().last_error != "")  # so that the next try has all of them in a batch
    scripted.start()
    eventually(lambda: len(heard) == 20)
    assert all(receipt.wait(5).success for receipt in receipts)
    assert {adopted for _, adopted in heard} == {False}


WAITS: dict[str, Callable[[reflexio.ReflexioClient, Any], object]] = {
    "flush": lambda client, _: client.flush(60),
    "wait": lambda _, receipt: receipt.wait(60),
    "wait for ever": lambda _, receipt: receipt.wait(),
    "publish": lambda client, _: client.publish_interaction("u", [{"content": "w"}], wait_for_response=True),
    "publish_many": lambda client, _: client.publish_many([{"user_id": "u", "interactions": [{"content": "w"}]}]),
    "delete": lambda client, _: client.delete_user("u", wait_for_response=True),
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_waiting_in_it_raises_at_once(scripted: ScriptedServer, wait: str, kind: str) -> None:
    def told(_delivery: Delivery) -> None:
        if said:
            return
        receipt = now(client.publish_interaction("u", [{"content": "2"}]))
        begin = time.monotonic()
        try:
            now(WAITS[wait](client, receipt))
        except reflexio.ReflexioError as error:
            said.append((str(error), time.monotonic() - begin))

    def now(made: Any) -> Any:
        return asyncio.run(_awaited(made)) if kind == "async" else made

    async def _awaited(made: Any) -> Any:
        return await made

    said: list[tuple[str, float]] = []
    maker = reflexio.ReflexioClient if kind == "sync" else reflexio.AsyncReflexioClient
    client: Any = maker(KEY, scripted.url, on_delivery=told)
    now(client.publish_interaction("u", [{"content": "1"}]))
    eventually(lambda: len(said) == 1)
    assert "would wait for itself" in said[0][0]
    assert said[0][1] < 10
    eventually(lambda: sorted(scripted.stored_contents()) == ["1", "2"])
    now(client.close())


def test_reads_and_other_clients_may_be_used_in_it(scripted: ScriptedServer) -> None:
    def told(_delivery: Delivery) -> None:
        if not heard:
            heard.append(0)
            client.publish_interaction("u", [{"content": "2"}])
            begin = time.monotonic()
            found = client.get_interactions(user_id="u").interactions
            heard[0] = len(found)
            assert time.monotonic() - begin < 1.9, "it waited for what could not come"
            heard.append(other.publish_interaction("u", [{"content": "3"}]).wait(20).success)

    heard: list[Any] = []
    other = reflexio.ReflexioClient(make_key("otheraccnt"), scripted.url)
    client = reflexio.ReflexioClient(KEY, scripted.url, on_delivery=told)
    client.publish_interaction("u", [{"content": "1"}])
    eventually(lambda: heard == [1, True])
    client.close()
    other.close()


@pytest.mark.parametrize("error", [SystemExit("of ours"), RuntimeError("of ours")])
def test_whatever_ends_the_work_it_begins_again(
    scripted: ScriptedServer, error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    take = Spool.take
    left = [1, 2, 3]

    def failing(self: Spool, limit: int, max_bytes: int) -> Any:
        if left:
            left.pop()
            raise error
        return take(self, limit, max_bytes)

    monkeypatch.setattr(Spool, "take", failing)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        receipt = client.publish_interaction("u", [{"content": "1"}])
        eventually(lambda: "of ours" in client.stats().last_error or receipt.done)
        assert receipt.wait(20).success
        eventually(lambda: client.stats().last_error == "")
    assert sum("reflexio-sender failed" in record.getMessage() for record in caplog.records) == 3


def test_a_thread_that_is_gone_is_started_again(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert client.publish_interaction("u", [{"content": "1"}]).wait(20).success
        (sender,) = client._all_senders()
        with sender.spool.changed:
            sender._stopped = True
            sender.spool.changed.notify_all()
        thread = sender._thread
        assert thread is not None
        eventually(lambda: not thread.is_alive())
        sender._stopped = False
        assert client.publish_interaction("u", [{"content": "2"}]).wait(20).success
