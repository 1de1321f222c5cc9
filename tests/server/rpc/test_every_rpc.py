"""What holds for every RPC of the contract, found by its descriptors: a new one is covered from its first day."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc

from reflexio.ids import checksum
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli.main import main
from reflexio_server.rpc.calls import HEALTH, REFLECTION, WITHOUT_KEY
from tests.support import PASSWORD, Caller, Failure, LocalServer, failure_of, log_in
from tests.wire import code_of, everything, expect, failure, publish, seeded
from tools.contract import RPCS, Metadata, Named, call_raw, path_of, random_message, right_request

CANARY = "the word of the other account"
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
        found = failure(call_raw, caller.channel, RPCS[name], [raw], ())
        if name in OPEN:
            assert found.code is grpc.StatusCode.INVALID_ARGUMENT, "without a key it gets as far as reading the message"
        else:
            expect(found, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def make_key(tag: str) -> str:
    """A key of the right form that nobody was given."""
    key = f"rflx_{tag}_{secrets.token_urlsafe(32)}"
    return key + checksum(key)


def bearer(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


def revoked(server: LocalServer) -> Metadata:
    caller = server.new_caller()
    other = log_in(caller.address, caller.email)
    key_id = other.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=other.metadata).api_key.key_id
    caller.auth.RevokeApiKey(auth_pb.RevokeApiKeyRequest(key_id=key_id), metadata=caller.metadata)
    return other.metadata


def damaged(server: LocalServer) -> Metadata:
    key = server.new_caller().api_key
    return bearer(key[:-8] + ("a" if key[-8] == "b" else "b") + key[-7:])


def disabled(server: LocalServer) -> Metadata:
    caller = server.new_caller()
    command = ["accounts", "disable", caller.email, "--data-dir", str(server.data_dir)]
    made = CliRunner().invoke(main, command, catch_exceptions=False)
    assert made.exit_code == 0, made.output
    return caller.metadata


CREDENTIALS: dict[str, Callable[[LocalServer], Metadata]] = {
    "no key": lambda server: (),
    "empty": lambda server: (("authorization", ""),),
    "no scheme": lambda server: (("authorization", server.new_caller().api_key),),
    "another scheme": lambda server: (("authorization", f"Basic {server.new_caller().api_key}"),),
    "two keys": lambda server: (*server.new_caller().metadata, *server.new_caller().metadata),
    "malformed": lambda server: bearer("rflx_malformed"),
    "cut short": lambda server: bearer(server.new_caller().api_key[:-1]),
    "a character changed": damaged,
    "of no account": lambda server: bearer(make_key("0000000000")),
    "never given": lambda server: bearer(make_key(server.new_caller().api_key.split("_")[1])),
    "revoked": revoked,
    "of a disabled account": disabled,
}


@pytest.fixture(scope="module")
def credentials(server: LocalServer) -> dict[str, Metadata]:
    return {what: make(server) for what, make in CREDENTIALS.items()}


@EVERY_RPC
@pytest.mark.parametrize("what", CREDENTIALS)
def test_without_a_valid_key(
    caller: Caller, credentials: dict[str, Metadata], foreign: Named, name: str, what: str
) -> None:
    """The same answer for all of them, and from a Login that a key is nothing to."""
    raws = [right_request(name, foreign).SerializeToString()]
    if name in OPEN:
        assert call_raw(caller.channel, RPCS[name], raws, credentials[what])
        return
    found = failure(call_raw, caller.channel, RPCS[name], raws, credentials[what])
    expect(found, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")
    assert found == failure(call_raw, caller.channel, RPCS[name], raws, ())


@pytest.fixture(scope="module")
def owner(server: LocalServer) -> Caller:
    return server.new_caller()


@pytest.fixture(scope="module")
def foreign(owner: Caller) -> Named:
    """What another account has."""
    named = Named(user_id="owner", request_id="owned", request_group="owned", email=owner.email, password=PASSWORD)
    items = [noun.InteractionData(content=CANARY, image=CANARY.encode())]
    stored = publish(owner, "owner", *items, request_id="owned", request_group="owned", source="chat")
    key = owner.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=owner.metadata).api_key
    (interaction_id,) = stored.interaction_ids
    return replace(named, interaction_id=interaction_id, picture_id=interaction_id, key_id=key.key_id)


@EVERY_RPC
def test_what_is_anothers_is_as_what_is_not_there(
    server: LocalServer, owner: Caller, foreign: Named, name: str
) -> None:
    """Whatever a request names of another account: the same answer as for what never was, and the owner keeps it."""
    if name in OPEN:
        foreign = replace(foreign, password="never right")
    never = Named(user_id="nobody", request_id="never", request_group="never")
    before = everything(owner)
    caller = server.new_caller()
    answers: list[bytes | Failure] = []
    for named in (foreign, never):
        raw = right_request(name, named).SerializeToString()
        try:
            answers.append(b"".join(call_raw(caller.channel, RPCS[name], [raw], caller.metadata)))
        except grpc.RpcError as error:
            answers.append(failure_of(error))
    theirs, none = answers
    assert type(theirs) is type(none)
    assert CANARY.encode() not in theirs if isinstance(theirs, bytes) else theirs == none
    if name.endswith(("SearchInteractions", "GetInteractions", "GetRequests")):
        assert theirs == none == b"", "an empty answer"
    assert everything(owner) == before
    assert owner.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=owner.metadata).api_key.key_id == foreign.key_id


def test_only_these_need_no_key() -> None:
    assert {*HEALTH, REFLECTION, *(path_of(RPCS[name]) for name in OPEN)} == WITHOUT_KEY


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
