"""The id of a call, in its answer and in the log; the log's lines."""

import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import reflexio
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.listing import Lister
from reflexio_server.core.publishing import Publisher
from reflexio_server.logs import JsonFormatter, TextFormatter
from tests.support import PASSWORD, Caller, LocalServer, log_in
from tests.wire import NEVER_STORED, RPCS, blocked_writer, call_raw, path_of, publish, say, wait_until
from tools.server_process import ServerProcess, create_account

SAID = "the secret of the lighthouse"
KEY = "x-request-id"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """All lines logged in the test so far, as JSON would have them."""
    caplog.set_level(logging.DEBUG, "reflexio_server")
    caplog.handler.setFormatter(JsonFormatter())
    yield lambda: [json.loads(line) for line in caplog.text.splitlines()]
    caplog.handler.setFormatter(None)


def ended(lines: Callable[[], list[dict[str, Any]]], call_id: str) -> dict[str, Any]:
    """The line that says that the call ended; it comes a moment after the answer."""

    def found() -> list[dict[str, Any]]:
        return [line for line in lines() if line["message"] == "call ended" and line["call_id"] == call_id]

    wait_until(found, f"the line of {call_id}")
    (line,) = found()
    return line


def ids_in(metadata: Any) -> list[str]:
    return [value for key, value in metadata or () if key == KEY]


def call_id_of(channel: grpc.Channel, rpc: str, raw: bytes, metadata: Any) -> str:
    """The call id in what is answered, be it well or not."""
    method = RPCS[rpc]
    kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call = getattr(channel, kind)(path_of(method))
    given = iter([raw]) if method.client_streaming else raw
    if method.server_streaming:
        answer = call(given, metadata=metadata, timeout=30)
        with contextlib.suppress(grpc.RpcError):
            list(answer)
        (found,) = ids_in(answer.trailing_metadata())
    else:
        try:
            _, answer = call.with_call(given, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            answer = error
        (found,) = ids_in(answer.trailing_metadata())
    return str(found)


@pytest.mark.parametrize("rpc", RPCS)
def test_every_rpc_answers_with_an_id_of_its_own_or_with_the_callers(caller: Caller, rpc: str) -> None:
    ids = {call_id_of(caller.channel, rpc, b"", metadata) for metadata in (caller.metadata, caller.metadata, ())}
    assert len(ids) == 3
    assert all(len(made) == 16 and int(made, 16) >= 0 for made in ids)
    assert call_id_of(caller.channel, rpc, b"", ((KEY, "mine:1.a_B-c"),)) == "mine:1.a_B-c"


@pytest.mark.parametrize(
    "given", [[""], ["a b"], ["a\tb"], ["é".encode().decode("latin-1")], ["x" * 65], ["one", "two"], ['"quoted"']]
)
def test_an_id_that_could_harm_a_log_is_replaced(caller: Caller, given: list[str]) -> None:
    metadata = (*caller.metadata, *((KEY, value) for value in given))
    try:
        found = call_id_of(caller.channel, "reflexio.v1.AuthService.WhoAmI", b"", metadata)
    except ValueError:  # the client's grpc does not let it out
        return
    assert found not in given
    assert len(found) == 16


def test_a_call_is_a_line_with_its_account_and_bytes_but_not_what_was_said(
    caller: Caller, lines: Callable[[], list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    tag = caller.api_key.split("_")[1]
    message = pb.PublishInteractionsRequest(user_id="ada", interactions=[noun.InteractionData(content=SAID)])
    answer, _ = caller.interactions.PublishInteractions.with_call(
        message, metadata=(*caller.metadata, (KEY, "publish-1")), timeout=30
    )
    line = ended(lines, "publish-1")
    assert line.pop("duration_ms") > 0
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "DEBUG",
        "logger": "reflexio_server.calls",
        "message": "call ended",
        "call_id": "publish-1",
        "method": "/reflexio.v1.InteractionService/PublishInteractions",
        "code": "OK",
        "account": tag,
        "received_bytes": message.ByteSize(),
        "sent_bytes": answer.ByteSize(),
    }
    messages = [pb.PublishInteractionStreamRequest(request=say(f"in stream {n}", SAID)) for n in range(5)]
    caller.interactions.PublishInteractionStream(
        iter(messages), metadata=(*caller.metadata, (KEY, "stream-1")), timeout=30
    )
    assert ended(lines, "stream-1")["received_bytes"] == sum(message.ByteSize() for message in messages)
    picture = b"GIF89a\x01\x00\x01\x00" + bytes(1_500_000)
    (with_picture,) = publish(caller, "ada", noun.InteractionData(image=picture)).interaction_ids
    request = pb.GetImageRequest(interaction_id=with_picture)
    parts = caller.interactions.GetImage(request, metadata=(*caller.metadata, (KEY, "image-1")), timeout=30)
    assert ended(lines, "image-1")["sent_bytes"] == sum([part.ByteSize() for part in parts])
    caller.search(user_id="ada", query=SAID)
    assert SAID not in caplog.text
    assert caller.api_key not in caplog.text


def test_what_fails_is_in_the_log_as_it_is_by_default(
    caller: Caller, lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/")
    with pytest.raises(reflexio.NotFoundError) as missing:
        client.revoke_api_key(NEVER_STORED)
    assert str(missing.value).endswith(f" (call {missing.value.call_id})")
    line = ended(lines, missing.value.call_id)
    assert (line["level"], line["code"]) == ("INFO", "NOT_FOUND")
    with pytest.raises(reflexio.AuthenticationError) as refused:
        client.login("nobody@example.com", "never right")
    line = ended(lines, refused.value.call_id)
    assert (line["level"], line["code"], line["account"]) == ("INFO", "UNAUTHENTICATED", "-")

    def fails(*_: Any) -> Any:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(Lister, "page", fails)
    with pytest.raises(reflexio.InternalError) as internal:
        client.get_interactions(user_id="ada")
    assert internal.value.error_id == internal.value.call_id
    assert str(internal.value).count(internal.value.call_id) == 1
    assert ended(lines, internal.value.call_id)["level"] == "WARNING"
    (cause,) = [line for line in lines() if "exception" in line]
    assert cause["call_id"] == internal.value.call_id
    assert cause["exception"].endswith("RuntimeError: unforeseen")
    client.close()


def test_a_call_that_its_client_gave_up_is_not_said_to_be_ok(
    start: Any, lines: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server: LocalServer = start()
    caller = server.new_caller()
    begun: list[str] = []
    publish_one = Publisher.publish

    def noted(self: Publisher, account_id: int, request: Any, searchable_by: float | None) -> Any:
        begun.append(request.request_id)
        return publish_one(self, account_id, request, searchable_by)

    monkeypatch.setattr(Publisher, "publish", noted)
    with blocked_writer(server):
        late, gone = (
            caller.interactions.PublishInteractions.future(
                say(name), metadata=(*caller.metadata, (KEY, name)), timeout=seconds
            )
            for name, seconds in (("late", 2), ("gone", 30))
        )
        wait_until(lambda: len(begun) == 2, "both calls to be handled")
        gone.cancel()
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert ended(lines, "late")["code"] == "DEADLINE_EXCEEDED"
    assert ended(lines, "gone")["code"] == "CANCELLED"


def test_health_checks_are_told_at_debug_only(server: LocalServer, lines: Callable[[], list[dict[str, Any]]]) -> None:
    with grpc.insecure_channel(server.address) as channel:
        request = health_pb2.HealthCheckRequest(service="other")
        with pytest.raises(grpc.RpcError):
            health_pb2_grpc.HealthStub(channel).Check(  # type: ignore[attr-defined]
                request, metadata=((KEY, "health"),), timeout=30
            )
    line = ended(lines, "health")
    assert (line["level"], line["code"]) == ("DEBUG", "NOT_FOUND")


def test_all_that_a_server_logs_is_json(tmp_path: Any, model_dir: Any) -> None:
    email = create_account(tmp_path)
    server = ServerProcess(tmp_path, model_dir, "--log-format", "json", "--log-level", "debug")
    caller = log_in(server.address, email)
    caller.publish("ada", SAID)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError):
        call_raw(channel, RPCS["reflexio.v1.AuthService.WhoAmI"], [b"\xff"], [])
    assert server.terminate() == 0
    logged = [json.loads(line) for line in server.lines]
    assert {"INFO", "DEBUG"} <= {line["level"] for line in logged}
    assert all({"time", "level", "logger", "message"} <= set(line) for line in logged)
    assert sum(line["logger"] == "reflexio_server.calls" for line in logged) >= 3
    assert "listening on" in "".join(line["message"] for line in logged)
    assert not [line for line in server.lines if SAID in line or PASSWORD in line or caller.api_key in line]


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_nobody_caught_is_in_the_log(form: str) -> None:
    program = f"""
import threading, warnings
from reflexio_server import logs
logs.set_up("info", "{form}")
thread = threading.Thread(target=lambda: 1 / 0, name="worker-7")
thread.start()
thread.join()
warnings.warn("mind the gap")
raise LookupError("nobody")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    said = done.stderr
    if form == "json":
        lines = [json.loads(line) for line in said.splitlines()]
        assert [line["level"] for line in lines] == ["CRITICAL", "WARNING", "CRITICAL"]
        said = "\n".join(f"{line['message']} {line.get('exception')}" for line in lines)
    for text in (
        "uncaught ZeroDivisionError in the thread worker-7",
        "ZeroDivisionError: division by zero",
        "mind the gap",
        "LookupError: nobody",
    ):
        assert text in said


def record(message: str, **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "a.b", "levelname": "INFO", "msg": message, "created": 1_700_000_000.25})
    vars(made).update(extra)
    return made


def test_a_line_of_text_stays_one_line_and_its_fields_clear() -> None:
    line = TextFormatter().format(record("two\nlines\r", plain="abc", count=3, none="", spaced='a "b"\n', odd="a=b"))
    assert line.endswith(r' INFO a.b: two\nlines\r plain=abc count=3 none="" spaced="a \"b\"\n" odd="a=b"')


def test_a_line_of_json_holds_whatever_it_is_given() -> None:
    line = JsonFormatter().format(record("é\n", thing=object, surrogate="\udc80"))
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "INFO",
        "logger": "a.b",
        "message": "é\n",
        "thing": "<class 'object'>",
        "surrogate": "\udc80",
    }


def test_a_login_is_logged_without_its_password(
    caller: Caller, lines: Callable[[], list[dict[str, Any]]], caplog: pytest.LogCaptureFixture
) -> None:
    request = auth_pb.LoginRequest(email=caller.email, password=PASSWORD)
    key = caller.auth.Login(request, metadata=((KEY, "login-1"),), timeout=30).api_key
    assert ended(lines, "login-1")["code"] == "OK"
    assert PASSWORD not in caplog.text
    assert key not in caplog.text
