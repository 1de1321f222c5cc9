import logging
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import retry
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import KEY, ScriptedServer, eventually, fail, info, make_key, retry_after, verdict

Code = grpc.StatusCode
STREAM = "PublishInteractionStream"


def publish(client: reflexio.ReflexioClient, content: str = "x", user_id: str = "ada") -> reflexio.PublishReceipt:
    return client.publish_interaction(user_id, [{"content": content}], source="test_run")


def batches(server: ScriptedServer) -> list[list[str]]:
    return [[i.content for r in sent for i in r.interactions] for sent in server.sent(STREAM)]


def hold(server: ScriptedServer, client: reflexio.ReflexioClient, contents: list[str]) -> list[reflexio.PublishReceipt]:
    """Publish while the sender is busy with a first request, so that all of it goes out as one batch."""
    busy, free = threading.Event(), threading.Event()

    def wait(sent: Any, context: grpc.ServicerContext) -> Any:
        busy.set()
        free.wait(30)
        return verdict(stored=len(sent))(sent, context)

    server.script_first(STREAM, wait)
    publish(client, "first")
    assert busy.wait(30)
    receipts = [publish(client, content) for content in contents]
    free.set()
    return receipts


def test_publishing_returns_a_receipt_that_can_be_waited_for(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    receipt = publish(client, "hello")
    assert receipt.request_id.split("_")[0] == "test-run"
    response = receipt.wait(30)
    assert (response.success, response.request_id) == (True, receipt.request_id)
    assert receipt.done
    assert server.stored_contents() == ["hello"]
    assert server.calls[0].metadata["authorization"] == f"Bearer {KEY}"
    assert client.flush(30).delivered
    stats = client.stats()
    assert (stats.pending, stats.pending_bytes, stats.delivered, stats.rejected) == (0, 0, 1, 0)


def test_it_does_not_wait_for_the_server() -> None:
    with reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/") as client:
        receipt = publish(client)
        with pytest.raises(reflexio.DeadlineExceededError, match=receipt.request_id):
            receipt.wait(0.05)
        result = client.flush(0.5)
        assert (result.pending, result.delivered) == (1, False)
        assert "http://127.0.0.1:1/" in result.error
        client.close(timeout=0)
        with pytest.raises(reflexio.ClosedError):
            receipt.wait(1)


def test_many_go_in_few_streams_and_in_order(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    names = [str(i) for i in range(500)]
    hold(server, client, names)
    assert client.flush(60).delivered
    assert server.stored_contents() == names
    sizes = [len(batch) for batch in batches(server)]
    assert sizes == [1, 200, 200, 100]


def test_an_outage_is_survived(
    server: ScriptedServer, client: reflexio.ReflexioClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.script(STREAM, *[fail(code) for code in (Code.UNAVAILABLE, Code.ABORTED, Code.CANCELLED, Code.UNKNOWN)])
    with caplog.at_level(logging.INFO, "reflexio"):
        assert publish(client, "kept").wait(60).success
    assert server.stored_contents() == ["kept"]
    assert [r.levelname for r in caplog.records if r.name == "reflexio"] == ["WARNING", "INFO"], (
        "one outage is logged once"
    )


def test_a_restarted_server_gets_what_was_published_meanwhile(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    publish(client, "before").wait(30)
    server.stop()
    receipts = [publish(client, f"meanwhile {i}") for i in range(20)]
    assert client.flush(0.3).pending == 20
    server.start()
    assert all(receipt.wait(60).success for receipt in receipts)
    assert len(server.stored_contents()) == 21


def test_rejections_fail_their_receipts_and_no_others(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    receipts = hold(server, client, ["good", "bad", "worse", "fine"])
    server.script(STREAM, verdict(2, 0, (1, "INVALID_FIELD"), (2, "REQUEST_ID_REUSED")))
    assert client.flush(30).delivered
    assert receipts[0].wait(0).success
    assert receipts[3].wait(0).success
    with pytest.raises(reflexio.InvalidArgumentError, match="refused 1"):
        receipts[1].wait(0)
    with pytest.raises(reflexio.AlreadyExistsError):
        receipts[2].wait(0)
    stats = client.stats()
    assert (stats.delivered, stats.rejected) == (3, 2)
    assert [r.reason for r in stats.rejections] == ["INVALID_FIELD", "REQUEST_ID_REUSED"]
    assert server.count(STREAM) == 2


def test_only_the_handled_prefix_is_settled(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    hold(server, client, ["a", "b", "c", "d"])
    server.script(STREAM, verdict(2, 0, (1, "INVALID_FIELD"), end=pb.END_REASON_DRAINING))
    assert client.flush(30).delivered
    assert batches(server)[1:] == [["a", "b", "c", "d"], ["d"]]


def test_what_a_verdict_does_not_list_is_not_taken_for_stored(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    receipts = hold(server, client, ["a", "b", "c", "d"])
    server.script(STREAM, verdict(2, 0, (0, "INVALID_FIELD"), rejected=2))
    assert client.flush(30).delivered
    assert batches(server)[1:] == [["a", "b", "c", "d"], ["b", "c", "d"]]
    assert [r._outcome.exception() is None for r in receipts] == [False, True, True, True]


@pytest.mark.parametrize(
    "nonsense", [verdict(5), verdict(1, 0, (0, "INVALID_FIELD"), (1, "INTERNAL"), rejected=1), verdict(0)]
)
def test_a_verdict_that_contradicts_itself_settles_nothing(
    server: ScriptedServer, client: reflexio.ReflexioClient, nonsense: Any
) -> None:
    server.script(STREAM, nonsense)
    assert publish(client, "kept").wait(30).success
    assert server.stored_contents() == ["kept"]


def test_retry_info_is_obeyed(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script(STREAM, fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY"), retry_after(0.4)))
    begin = time.monotonic()
    assert publish(client).wait(30).success
    assert time.monotonic() - begin >= 0.4
    assert client.stats().rejected == 0


def test_without_retry_info_the_one_too_large_is_found_and_buried(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    def too_large(sent: Any, context: grpc.ServicerContext) -> Any:
        if any(r.interactions[0].content == "huge" for r in sent):
            return fail(Code.RESOURCE_EXHAUSTED, "larger than max")(sent, context)
        for request in sent:
            server.store(request)
        return verdict(len(sent))(sent, context)

    receipts = hold(server, client, ["a", "b", "huge", "c", "d"])
    server.always(STREAM, too_large)
    assert client.flush(60).delivered
    assert sorted(server.stored_contents()) == ["a", "b", "c", "d"]
    with pytest.raises(reflexio.ResourceExhaustedError):
        receipts[2].wait(0)
    assert sum(batch == ["huge"] for batch in batches(server)) == 1, "it is not repeated blindly"


def test_a_poison_request_is_buried_and_the_others_delivered(
    server: ScriptedServer, client: reflexio.ReflexioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(retry._PLANS, "INTERNAL", retry.Plan(split=True, attempts=3))

    def poisoned(sent: Any, context: grpc.ServicerContext) -> Any:
        if any(r.interactions[0].content == "poison" for r in sent):
            return fail(Code.INTERNAL, "unforeseen", info("INTERNAL", error_id="e"))(sent, context)
        for request in sent:
            server.store(request)
        return verdict(len(sent))(sent, context)

    receipts = hold(server, client, ["a", "poison", "b", "c"])
    server.always(STREAM, poisoned)
    assert client.flush(60).delivered
    assert sorted(server.stored_contents()) == ["a", "b", "c"]
    with pytest.raises(reflexio.InternalError):
        receipts[1].wait(0)


def test_a_refused_key_pauses_until_there_is_another(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always(STREAM, fail(Code.UNAUTHENTICATED, "no such key", info("UNAUTHENTICATED")))
    receipt = publish(client, "waits")
    begin = time.monotonic()
    result = client.flush(60)
    assert time.monotonic() - begin < 15, "a flush does not wait for what cannot happen"
    assert (result.pending, result.error) == (1, "no such key")
    time.sleep(0.3)
    assert server.count(STREAM) == 1
    assert not receipt.done
    server.always(STREAM, None)
    client.api_key = make_key(fill="t")
    assert receipt.wait(30).success
    assert server.calls[-1].metadata["authorization"] == f"Bearer {client.api_key}"


def test_what_was_published_for_one_account_never_goes_out_with_the_key_of_another(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    server.script(STREAM, fail(Code.UNAVAILABLE), fail(Code.UNAVAILABLE))
    first = publish(client, "of one")
    client.api_key = make_key("otheraccnt")
    second = publish(client, "of the other")
    first.wait(30)
    second.wait(30)
    keys = {c.sent[0].interactions[0].content: c.metadata["authorization"] for c in server.calls}
    assert keys == {"of one": f"Bearer {KEY}", "of the other": f"Bearer {make_key('otheraccnt')}"}


def test_a_full_outbox_says_so(server: ScriptedServer) -> None:
    client = reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/", max_pending=2)
    publish(client)
    publish(client)
    with pytest.raises(reflexio.QueueFullError):
        publish(client)
    client.close(timeout=0)


def test_closing_delivers_what_is_pending_and_reports_the_rest(
    server: ScriptedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with reflexio.ReflexioClient(KEY, server.url) as client:
        for i in range(50):
            publish(client, str(i))
    assert len(server.stored_contents()) == 50
    assert capsys.readouterr().err == ""
    with pytest.raises(reflexio.ClosedError):
        publish(client)
    with pytest.raises(reflexio.ClosedError):
        client.search_interactions(query="x")
    client.close()
    other = reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/")
    publish(other)
    other.close(timeout=0.2)
    assert "1 requests were not delivered to http://127.0.0.1:1/" in capsys.readouterr().err


def test_closing_ends_a_call_that_hangs(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    free = threading.Event()
    server.always(STREAM, lambda _sent, _context: free.wait(60))
    client = reflexio.ReflexioClient(KEY, server.url)
    receipt = publish(client)
    eventually(lambda: server.count(STREAM) == 1)
    begin = time.monotonic()
    client.close(timeout=0.1)
    free.set()
    assert time.monotonic() - begin < 10
    assert "1 requests" in capsys.readouterr().err
    with pytest.raises(reflexio.ClosedError, match=r"delivered\. It is kept in \S+ and delivered by the next start\.$"):
        receipt.wait(5)


def test_a_forgotten_client_still_delivers(server: ScriptedServer) -> None:
    before = set(threading.enumerate())
    client = reflexio.ReflexioClient(KEY, server.url)
    for i in range(20):
        publish(client, str(i))
    del client
    eventually(lambda: len(server.stored_contents()) == 20)
    eventually(lambda: not any(t.name == "reflexio-sender" for t in set(threading.enumerate()) - before))


def run_script(server: ScriptedServer, body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    head = f"import os, sys, reflexio\nclient = reflexio.ReflexioClient({KEY!r}, {server.url!r})\n"
    path.write_text(head + textwrap.dedent(body))
    return subprocess.run([sys.executable, path, server.url], capture_output=True, text=True, timeout=120, check=False)


def test_leaving_the_program_delivers(server: ScriptedServer, tmp_path: Path) -> None:
    done = run_script(
        server,
        """
        for i in range(300):
            client.publish_interaction("ada", [{"content": str(i)}])
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.stored_contents()) == 300


def test_leaving_the_program_delivers_where_no_thread_can_start_any_more(
    server: ScriptedServer, tmp_path: Path
) -> None:
    done = run_script(
        server,
        """
        import atexit, threading
        from grpc._cython import cygrpc
        def no_more(self):
            raise RuntimeError("can't create new thread at interpreter shutdown")  # as Python 3.12 does
        atexit.register(setattr, cygrpc.ForkManagedThread, "start", no_more)
        for i in range(300):
            client.publish_interaction("ada", [{"content": str(i)}])
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(server.stored_contents()) == 300
    assert server.count("PublishInteractions") > 0


def test_leaving_the_program_without_a_server_ends_and_says_what_is_left(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.stop()
    begin = time.monotonic()
    done = run_script(server, 'client.publish_interaction("ada", [{"content": "x"}])', tmp_path)
    assert time.monotonic() - begin < 40
    assert done.returncode == 0
    assert "1 requests were not delivered" in done.stderr


def test_a_forked_child_begins_anew(server: ScriptedServer, tmp_path: Path) -> None:
    done = run_script(
        server,
        """
        import time
        client.publish_interaction("ada", [{"content": "warm"}]).wait(30)
        receipts = [client.publish_interaction("ada", [{"content": f"parent {i}"}]) for i in range(200)]
        children = []
        for n in range(3):
            pid = os.fork()
            if pid == 0:
                ok = client.stats().pending == 0
                ok &= client.publish_interaction("bob", [{"content": f"child {n}"}]).wait(30).success
                ok &= len(client.get_interactions(user_id="bob", top_k=1).interactions) == 1
                if not receipts[-1].done:
                    try:
                        receipts[-1].wait(5)
                        ok = False
                    except reflexio.ReflexioError:
                        pass
                client.close()
                os._exit(0 if ok else 1)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        for receipt in receipts:
            receipt.wait(30)
        sys.exit(any(codes))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(server.stored_contents("bob")) == ["child 0", "child 1", "child 2"]
    assert len(server.stored_contents("ada")) == 201


def test_where_grpc_would_hang_after_a_fork_it_says_so(server: ScriptedServer, tmp_path: Path) -> None:
    done = run_script(
        server,
        """
        import asyncio
        other = reflexio.AsyncReflexioClient(client.api_key, sys.argv[1])
        asyncio.run(other.who_am_i())
        pid = os.fork()
        if pid == 0:
            raised = 0
            for call in (client.who_am_i, lambda: client.publish_interaction("ada", [{"content": "x"}]),
                         lambda: asyncio.run(other.who_am_i())):
                try:
                    call()
                except reflexio.ReflexioError as error:
                    raised += "forked" in str(error)
            os._exit(0 if raised == 3 else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
