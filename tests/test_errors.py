"""The contract's error table, row by row: code, ErrorInfo, BadRequest, and nothing of the server's inside."""

import math
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc.validation import Limits
from tests.support import Caller, Failure, LocalServer, log_in
from tests.wire import MIB, NEVER_STORED, code_of, expect, failure, publish

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Say = noun.InteractionData
LIMITS = Limits()


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    """One account for all of these: what is refused leaves nothing behind."""
    return server.new_caller()


def only_violation(found: Failure, field: str) -> str:
    """Check that one field breaks a rule, and return what is said of it."""
    expect(found, INVALID, "INVALID_FIELD", violations="1")
    return _said_of(found, field)


def over_limit(found: Failure, field: str, count: int, maximum: int) -> str:
    """Check that one field is over a limit, and return what is said of it."""
    expect(found, INVALID, "LIMIT_EXCEEDED", field=field, count=str(count), maximum=str(maximum))
    said = _said_of(found, field)
    assert said.startswith(f"{count:,} ")
    assert f", at most {maximum:,}: " in said, "what to use instead follows the colon"
    return said


def _said_of(found: Failure, field: str) -> str:
    ((named, description),) = found.violations
    assert named == field
    assert found.text == f"{field}: {description}"
    assert found.retry_seconds is None
    return description


TEXTS = [
    *(("PublishInteractions", name, name) for name in ("user_id", "request_group", "source", "agent_version")),
    ("PublishInteractions", "request_id", "request_id"),
    ("PublishInteractions", "interactions[0].role", "role"),
    ("PublishInteractions", "interactions[0].content", "content"),
    ("PublishInteractions", "interactions[0].user_action_description", "description"),
    ("PublishInteractions", "interactions[0].interacted_image_url", "url"),
    ("SearchInteractions", "query", "query"),
    *((rpc, "user_id", "user_id") for rpc in ("SearchInteractions", "GetInteractions")),
    *(
        (rpc, f"filter.{field}", limit)
        for rpc in ("SearchInteractions", "GetInteractions")
        for field, limit in (
            ("request_id", "request_id"),
            ("request_group", "request_group"),
            ("agent_version", "agent_version"),
            ("sources[0]", "source"),
            ("roles[0]", "role"),
        )
    ),
    ("Login", "email", "email"),
    ("Login", "password", "password"),
]


def with_text(rpc: str, path: str, value: str) -> Any:
    """A request of an RPC that is right but for the text at this path."""
    message: Any = {
        "PublishInteractions": pb.PublishInteractionsRequest(user_id="limits", interactions=[Say(content="right")]),
        "SearchInteractions": pb.SearchInteractionsRequest(query="right"),
        "GetInteractions": pb.GetInteractionsRequest(),
        "Login": auth_pb.LoginRequest(email="nobody@example.com", password="never right"),
    }[rpc]
    *outer, last = path.split(".")
    target = message
    for part in outer:
        target = target.interactions[0] if part == "interactions[0]" else getattr(target, part)
    if last.endswith("[0]"):
        getattr(target, last[:-3]).append(value)
    else:
        setattr(target, last, value)
    return message


def send(caller: Caller, rpc: str, message: Any) -> Any:
    stub = caller.auth if rpc == "Login" else caller.interactions
    return getattr(stub, rpc)(message, metadata=caller.metadata, timeout=30)


@pytest.mark.parametrize(("rpc", "path", "limit"), TEXTS)
def test_every_text_has_its_limit_in_bytes(caller: Caller, rpc: str, path: str, limit: str) -> None:
    maximum = getattr(LIMITS, limit)
    fits = "é" * (maximum // 2) + "x" * (maximum % 2)
    assert code_of(lambda: send(caller, rpc, with_text(rpc, path, fits))) is not INVALID
    found = failure(send, caller, rpc, with_text(rpc, path, fits + "x"))
    assert " bytes," in over_limit(found, path, maximum + 1, maximum)


@pytest.mark.parametrize(("rpc", "path", "limit"), TEXTS)
def test_no_text_may_hold_u0000(caller: Caller, rpc: str, path: str, limit: str) -> None:
    found = failure(send, caller, rpc, with_text(rpc, path, "a\0b"))
    assert only_violation(found, path) == "must not hold the character U+0000: remove it"


def test_publishing_needs_a_user_id(caller: Caller) -> None:
    found = failure(publish, caller, "", Say(content="x"))
    assert only_violation(found, "user_id") == "is required and must not be empty"


def test_reading_with_an_empty_user_id_is_an_error_not_the_whole_account(caller: Caller) -> None:
    for read in (caller.search, caller.get):
        assert only_violation(failure(read, user_id=""), "user_id") == "is required and must not be empty"
        read()


def test_a_request_needs_an_interaction(caller: Caller) -> None:
    assert "at least one interaction" in only_violation(failure(publish, caller, "u"), "interactions")


def test_1001_interactions(caller: Caller) -> None:
    found = failure(publish, caller, "u", *[Say(content="x")] * 1001)
    assert "PublishInteractionStream" in over_limit(found, "interactions", 1001, 1000)
    assert len(publish(caller, "u", *[Say(content="x")] * 1000).interaction_ids) == 1000


@pytest.mark.parametrize(
    "empty", [Say(), Say(role="Agent"), Say(user_action=noun.USER_ACTION_NONE), Say(created_at=Timestamp(seconds=1))]
)
def test_an_interaction_must_carry_something(caller: Caller, empty: noun.InteractionData) -> None:
    found = failure(publish, caller, "u", Say(content="x"), empty)
    assert only_violation(found, "interactions[1]").startswith("carries nothing")


def test_a_picture_over_8_mib(caller: Caller) -> None:
    found = failure(publish, caller, "u", Say(image=bytes(8 * MIB + 1)))
    over_limit(found, "interactions[0].image", 8 * MIB + 1, 8 * MIB)


def test_a_message_over_16_mib_is_refused_by_grpc_itself(caller: Caller) -> None:
    items = [Say(image=bytes(8 * MIB)), Say(image=bytes(8 * MIB))]
    found = failure(publish, caller, "u", *items)
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert found.info is None
    assert found.retry_seconds is None, "the same message would be refused again"


NO_TIMES = [(253402300800, 0), (-62135596801, 0), (0, -1), (0, 1_000_000_000), (2**63 - 1, 0), (-(2**63), 0)]


@pytest.mark.parametrize(("seconds", "nanos"), NO_TIMES)
def test_timestamps_outside_the_years_1_to_9999(caller: Caller, seconds: int, nanos: int) -> None:
    wrong = Timestamp(seconds=seconds, nanos=nanos)
    found = failure(publish, caller, "u", Say(content="x", created_at=wrong))
    only_violation(found, "interactions[0].created_at")
    for name in ("start_time", "end_time"):
        wanted = pb.InteractionFilter(**{name: wrong})  # type: ignore[arg-type]
        for read in (caller.search, caller.get):
            only_violation(failure(read, filter=wanted), f"filter.{name}")


def test_unknown_enum_numbers(caller: Caller) -> None:
    unknown: Any = 99
    action = failure(publish, caller, "u", Say(content="x", user_action=unknown))
    assert "USER_ACTION_CLICK" in only_violation(action, "interactions[0].user_action"), "it lists those there are"
    only_violation(failure(publish, caller, "u", Say(content="x"), wait_until=unknown), "wait_until")
    only_violation(failure(caller.get, order=unknown), "order")
    for read in (caller.search, caller.get):
        for number in (unknown, noun.USER_ACTION_UNSPECIFIED):
            wanted = pb.InteractionFilter(user_actions=[noun.USER_ACTION_CLICK, number])
            only_violation(failure(read, filter=wanted), "filter.user_actions[1]")


@pytest.mark.parametrize("score", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_min_score_is_between_0_and_1(caller: Caller, score: float) -> None:
    only_violation(failure(caller.search, query="x", min_score=score), "min_score")


@pytest.mark.parametrize("query", ["", " \n "])
def test_min_score_needs_a_query(caller: Caller, query: str) -> None:
    only_violation(failure(caller.search, query=query, min_score=0.5), "min_score")


def test_numbers_and_lists_over_their_limits(caller: Caller) -> None:
    many = [str(number) for number in range(1001)]
    refused: list[tuple[str, int, int, Callable[..., Any], dict[str, Any]]] = [
        ("top_k", 1001, 1000, caller.search, {"top_k": 1001}),
        ("page_size", 1001, 1000, caller.get, {"page_size": 1001}),
        ("interaction_ids", 1001, 1000, caller.get, {"interaction_ids": many}),
        ("interaction_ids[0]", 65, 64, caller.get, {"interaction_ids": ["x" * 65]}),
        ("filter.sources", 101, 100, caller.get, {"filter": pb.InteractionFilter(sources=many[:101])}),
        ("filter.roles", 101, 100, caller.search, {"filter": pb.InteractionFilter(roles=many[:101])}),
    ]
    for field, count, maximum, call, fields in refused:
        over_limit(failure(call, **fields), field, count, maximum)
    request = auth_pb.ListApiKeysRequest(page_size=1001)
    found = failure(caller.auth.ListApiKeys, request, metadata=caller.metadata)
    over_limit(found, "page_size", 1001, 1000)


def test_ids_and_a_filter_exclude_each_other(caller: Caller) -> None:
    found = failure(caller.get, interaction_ids=[NEVER_STORED], filter=pb.InteractionFilter(roles=["User"]))
    only_violation(found, "filter")


def test_120_violations_are_counted_and_the_first_20_listed_within_4_kib(caller: Caller) -> None:
    unknown: Any = 99
    found = failure(publish, caller, "u", *[Say(role="\0", content="\0", user_action=unknown)] * 40)
    expect(found, INVALID, "INVALID_FIELD", violations="120")
    assert [field for field, _ in found.violations] == [
        f"interactions[{number}].{field}" for number in range(7) for field in ("role", "content", "user_action")
    ][:20]
    assert found.text.endswith("(and 119 more)")
    assert found.trailer_bytes <= 4096


def test_the_same_request_id_with_another_body(caller: Caller) -> None:
    publish(caller, "u", Say(content="first"), request_id="twice")
    found = failure(publish, caller, "u", Say(content="second"), request_id="twice")
    expect(found, grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED", request_id="twice")
    assert "'twice'" in found.text


def not_page_tokens(token: str) -> list[str]:
    return ["junk", "=", "é", "\0", "A" * 5000, token[:-1], token + "A", "_" + token[1:], token[1:]]


def test_page_tokens_that_are_none_or_belong_to_another_query(caller: Caller, server: LocalServer) -> None:
    publish(caller, "pages", *[Say(content="x")] * 3)
    token = caller.get(user_id="pages", page_size=1).next_page_token
    for wrong in not_page_tokens(token):
        only_violation(failure(caller.get, user_id="pages", page_token=wrong), "page_token")
    others: list[dict[str, Any]] = [
        {"user_id": "other"},
        {},
        {"user_id": "pages", "order": pb.ORDER_OLDEST_FIRST},
        {"user_id": "pages", "filter": pb.InteractionFilter(roles=["User"])},
        {"user_id": "pages", "interaction_ids": [NEVER_STORED]},
    ]
    for other in others:
        assert "another query" in only_violation(failure(caller.get, **other, page_token=token), "page_token")
    stranger = server.new_caller()
    publish(stranger, "pages", *[Say(content="x")] * 3)
    assert "another query" in only_violation(failure(stranger.get, user_id="pages", page_token=token), "page_token")
    assert len(caller.get(user_id="pages", page_size=2, include_images=True, page_token=token).interactions) == 2


def test_page_tokens_of_keys(caller: Caller) -> None:
    log_in(caller.address, caller.email)
    metadata = caller.metadata
    token = caller.auth.ListApiKeys(auth_pb.ListApiKeysRequest(page_size=1), metadata=metadata).next_page_token
    for wrong in ("junk", "=", "é", "\0", token[1:], token + "AA"):
        request = auth_pb.ListApiKeysRequest(page_token=wrong)
        only_violation(failure(caller.auth.ListApiKeys, request, metadata=metadata), "page_token")
