"""What holds for every RPC of the contract, found by its descriptors: a new one is covered from its first day."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc.interceptors import WITHOUT_KEY
from tests.support import Caller, LocalServer
from tests.wire import RPCS, call_raw, code_of, expect, failure, path_of, random_message, seeded

OPEN = {"reflexio.v1.AuthService.Login"}
BROKEN = {
    "no field": b"\xff" * 8,
    "ends inside a field": b"\x0a\x05abc",
    "longer than itself": b"\x0a\xff\xff\xff\xff\x07",
    "a group that never ends": b"\xa3\x06",
    "a varint of 11 bytes": b"\xf8\x06" + b"\xff" * 11,
}
# What an RPC may answer to a message of its type, whatever is in it.
FORESEEN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
}
FORESEEN_TOO = {"reflexio.v1.AuthService.Login": grpc.StatusCode.UNAUTHENTICATED}
EVERY_RPC = pytest.mark.parametrize("name", sorted(RPCS))


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    return server.new_caller()


@EVERY_RPC
def test_it_needs_a_key_before_it_reads_anything(caller: Caller, name: str) -> None:
    for raw in (b"", b"\xff"):
        if name in OPEN:
            found = failure(call_raw, caller.channel, RPCS[name], [raw], ())
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, "without a key it gets as far as reading the message"
        else:
            found = failure(call_raw, caller.channel, RPCS[name], [raw], ())
            expect(found, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_only_these_need_no_key() -> None:
    assert set(WITHOUT_KEY) == {"/grpc.health.v1.", "/grpc.reflection.", *(path_of(RPCS[name]) for name in OPEN)}


def is_malformed(caller: Caller, method: MethodDescriptor, raw: bytes) -> None:
    if method.client_streaming:
        (answer,) = call_raw(caller.channel, method, [raw], caller.metadata)
        (rejection,) = pb.PublishInteractionStreamResponse.FromString(answer).rejections
        assert (rejection.index, rejection.reason) == (0, "MALFORMED_MESSAGE")
    else:
        found = failure(call_raw, caller.channel, method, [raw], caller.metadata)
        expect(found, grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")


@EVERY_RPC
@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_broken_wire_data(caller: Caller, name: str, raw: bytes) -> None:
    is_malformed(caller, RPCS[name], raw)


def with_bad_text(message: Descriptor, bad: bytes) -> Iterator[bytes]:
    """The message with each of its texts, at any depth, replaced by these bytes."""
    for field in message.fields:
        inner = [bad] if field.type == field.TYPE_STRING else []
        if field.message_type is not None:
            inner = list(with_bad_text(field.message_type, bad))
        yield from (bytes([field.number << 3 | 2, len(value)]) + value for value in inner)


@EVERY_RPC
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"])
def test_text_that_is_not_utf8(caller: Caller, name: str, bad: bytes) -> None:
    raws = list(with_bad_text(RPCS[name].input_type, bad))
    assert raws or not RPCS[name].input_type.fields
    for raw in raws:
        is_malformed(caller, RPCS[name], raw)


@EVERY_RPC
def test_no_bytes_lead_to_an_unforeseen_error(caller: Caller, name: str) -> None:
    """Random bytes, random messages, and random messages with a few bytes changed."""
    source = seeded()
    method = RPCS[name]
    message_type = GetMessageClass(method.input_type)
    allowed = FORESEEN | {FORESEEN_TOO.get(name, grpc.StatusCode.OK)}
    for _ in range(60):
        raws = [source.randbytes(source.randrange(40)), random_message(message_type, source).SerializeToString()]
        changed = bytearray(raws[1])
        for _ in range(min(3, len(changed))):
            changed[source.randrange(len(changed))] = source.randrange(256)
        for raw in (*raws, bytes(changed)):
            code = code_of(lambda raw=raw: call_raw(caller.channel, method, [raw], caller.metadata))  # type: ignore[misc]
            assert code in allowed, f"{code} for {raw.hex()}"


def test_reading_rpcs_say_that_they_have_no_side_effects() -> None:
    reading = {
        method.name
        for method in RPCS.values()
        if method.GetOptions().idempotency_level == MethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS
    }
    assert {name for name in reading if name.startswith(("Publish", "Login", "Revoke", "Delete"))} == set()
    assert (
        {method.name for method in RPCS.values()}
        >= reading
        >= {"SearchInteractions", "GetInteractions", "GetRequests", "GetImage"}
    )


def test_health_and_an_unknown_rpc(caller: Caller) -> None:
    health: Any = health_pb2_grpc.HealthStub(caller.channel)
    for service in ("", *{method.containing_service.full_name for method in RPCS.values()}):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    unknown: Any = caller.channel.unary_unary("/reflexio.v1.InteractionService/NoSuch")
    assert code_of(lambda: unknown(b"", metadata=caller.metadata, timeout=10)) is grpc.StatusCode.UNIMPLEMENTED
