"""A8, the client's side: only Reflexio's own refusals are final, and the dead can be given another try."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import retry
from reflexio.errors import ReflexioError
from tests.client.scripted_server import KEY, ScriptedServer, bad_request, eventually, fail, foreign, info, verdict

Code = grpc.StatusCode
STREAM = "PublishInteractionStream"
ANY = [code for code in Code if code is not Code.OK]


def publish(client: reflexio.ReflexioClient, content: str) -> reflexio.PublishReceipt:
    return client.publish_interaction("ada", [{"content": content}])


@pytest.mark.parametrize("code", ANY, ids=lambda code: code.name)
def test_what_is_not_reflexios_may_pass(scripted: ScriptedServer, code: grpc.StatusCode) -> None:
    """Whatever a proxy says, with or without details of its own."""
    details: list[list[Any]] = [[], [foreign("INVALID_FIELD")], [bad_request(("x", "y"))], [foreign("NOT_FOUND")]]
    scripted.script(STREAM, *[fail(code, "a proxy", *more) for more in details])
    scripted.script("DeleteUser", *[fail(code, "a proxy", *more) for more in details])
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        receipt = publish(client, "kept")
        gone = client.delete_user("ada")
        assert receipt.wait(30).success
        assert gone.wait(30).requests == 1
        assert (client.stats().dead, client.stats().rejected) == (0, 0)


@pytest.mark.parametrize("reason", ["QUITE_NEW", "", "UNAUTHENTICATED", "TOO_BUSY", "NOT_IMPLEMENTED", "INTERNAL"])
def test_unknown_reasons_of_a_verdict_may_pass(scripted: ScriptedServer, reason: str) -> None:
    scripted.script(STREAM, verdict(0, 0, (0, reason)), verdict(0, 0, (0, reason)))
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert publish(client, "kept").wait(30).success
        assert client.stats().dead == 0


def test_patience_is_counted_in_days() -> None:
    for code in ("INTERNAL", "UNKNOWN", "DATA_LOSS", "FAILED_PRECONDITION", "OUT_OF_RANGE", "NOT_FOUND", "NEW"):
        plan = retry.plan_after(ReflexioError("x", code=code))
        tries = plan.attempts
        assert tries is not None
        assert sum(retry.pause_of_one(n) for n in range(tries)) > 24 * 3600
    for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"):
        assert retry.plan_after(ReflexioError("x", code=code)).attempts is None
    for reason in retry.REFUSALS:
        assert retry.plan_after(ReflexioError("x", code="INTERNAL", reason=reason)).attempts == 1


def test_one_that_always_fails_holds_up_no_others_and_no_deletes_of_others(scripted: ScriptedServer) -> None:
    def poisoned(sent: Any, context: grpc.ServicerContext) -> Any:
        if any("poison" in r.interactions[0].content for r in sent):
            return fail(Code.INTERNAL, "unforeseen", info("INTERNAL"))(sent, context)
        for request in sent:
            scripted.store(request)
        return verdict(len(sent))(sent, context)

    scripted.always(STREAM, poisoned)
    client = reflexio.ReflexioClient(KEY, scripted.url)
    poison = client.publish_interaction("eve", [{"content": "poison"}])
    receipts = [publish(client, str(n)) for n in range(20)]
    eventually(lambda: all(receipt.done for receipt in receipts))
    for _ in range(8):
        assert publish(client, "more").wait(20).success
    assert client.delete_user("ada").wait(30).requests == 28
    calls = sum("poison" in r.interactions[0].content for sent in scripted.sent(STREAM) for r in sent)
    assert calls < 25, "its pauses grow"
    assert (poison.done, client.stats().dead) == (False, 0)
    behind = client.delete_user("eve")
    scripted.always(STREAM, None)
    (sender,) = client._all_senders()
    sender.spool.hasten()
    assert poison.wait(60).success
    assert behind.wait(30).requests == 1
    client.close()


def test_a_message_that_is_too_large_for_grpc_is_buried_with_the_reason(scripted: ScriptedServer) -> None:
    def limited(sent: Any, context: grpc.ServicerContext) -> Any:
        if any(len(r.interactions[0].content) > 10_000 for r in sent):
            text = "CLIENT: Received message larger than max (20000 vs. 10000)"
            return fail(Code.RESOURCE_EXHAUSTED, text)(sent, context)
        return verdict(len(sent))(sent, context)

    scripted.always(STREAM, limited)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        large = publish(client, "x" * 20_000)
        small = publish(client, "small")
        assert small.wait(30).success
        with pytest.raises(reflexio.ResourceExhaustedError, match="larger than max"):
            large.wait(30)
        assert client.stats().dead == 1


def command(folder: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "reflexio.spool", "--dir", str(folder), *arguments],
        env={**os.environ, "REFLEXIO_API_KEY": KEY},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_dead_are_revived_by_command(scripted: ScriptedServer, spool_dir: Path) -> None:
    scripted.script(STREAM, *[verdict(0, 0, (0, "INVALID_FIELD"))] * 3)
    scripted.script("DeleteUser", fail(Code.INVALID_ARGUMENT, "no", info("INVALID_FIELD")))
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        ids = []
        for n in range(3):
            ids.append(publish(client, str(n)).request_id)
            assert client.flush(20).delivered
        gone = client.delete_user("ada").request_id
        assert client.flush(20).delivered
        assert client.stats().dead == 4
        assert command(spool_dir, "revive", ids[0])[:2] == (0, f"1 requests wait again in {spool_dir}\n"), (
            "while it runs"
        )
        assert client.stats().dead == 3
        assert client.flush(20).delivered
        assert scripted.stored_contents() == ["0"]
    code, _, err = command(spool_dir, "revive", "unknown")
    assert (code, "unknown is not among what was refused" in err) == (1, True)
    assert command(spool_dir, "revive")[1].startswith("2 requests wait again")
    waiting = [json.loads(line) for line in command(spool_dir, "export")[1].splitlines()]
    assert [one["request_id"] for one in waiting] == ids[1:]
    assert command(spool_dir, "flush")[0] == 0
    assert sorted(scripted.stored_contents()) == ["0", "1", "2"]
    assert command(spool_dir, "revive", gone)[0] == 0
    assert command(spool_dir, "flush")[0] == 0
    assert scripted.stored_contents() == []
    assert command(spool_dir, "status")[0] == 0
