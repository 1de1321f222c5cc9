"""What single fields do not show (test_bad_inputs.py does): many violations, sizes, ids used twice, page tokens."""

from typing import Any

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1.error_reason_pb2 import ErrorReason
from reflexio_server import errors
from reflexio_server.rpc.errors import _TOLD
from tests.support import Caller, Failure, LocalServer, log_in
from tests.wire import MIB, NEVER_STORED, expect, failure, publish

INVALID = grpc.StatusCode.INVALID_ARGUMENT
Say = noun.InteractionData


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    """One account for all of these."""
    return server.new_caller()


def only_violation(found: Failure, field: str) -> str:
    """Check that one field breaks a rule, and return what is said of it."""
    expect(found, INVALID, "INVALID_FIELD", violations="1")
    ((named, description),) = found.violations
    assert named == field
    assert found.text == f"{field}: {description}"
    assert found.retry_seconds is None
    return description


def test_1000_interactions_in_a_request(caller: Caller) -> None:
    found = failure(publish, caller, "u", *[Say(content="x")] * 1001)
    assert "PublishInteractionStream" in found.text, "it names what to use instead"
    assert len(publish(caller, "u", *[Say(content="x")] * 1000).interaction_ids) == 1000


def test_a_message_over_16_mib_is_refused_by_grpc_itself(caller: Caller) -> None:
    items = [Say(image=bytes(8 * MIB)), Say(image=bytes(8 * MIB))]
    found = failure(publish, caller, "u", *items)
    assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert found.info is None
    assert found.retry_seconds is None, "the same message would be refused again"


def test_reading_without_a_user_id_is_the_whole_account(caller: Caller) -> None:
    publish(caller, "one", Say(content="x"))
    publish(caller, "other", Say(content="x"))
    for read in (caller.search, caller.get):
        assert failure(read, user_id="").code is INVALID
        read()
    assert {"one", "other"} <= {item.user_id for item in caller.get(page_size=1000).interactions}


def test_an_unknown_action_is_told_those_there_are(caller: Caller) -> None:
    unknown: Any = 99
    found = failure(publish, caller, "u", Say(content="x", user_action=unknown))
    assert "USER_ACTION_CLICK" in only_violation(found, "interactions[0].user_action")


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
    return [token[:-1], token + "A", "_" + token[1:], token[1:]]


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


def test_every_error_of_the_domain_is_told_by_a_reason_of_the_contract() -> None:
    kinds = [errors.DomainError]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    assert set(kinds) - {errors.DomainError, errors.InvalidInput} == set(_TOLD)
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert {told.reason for told in _TOLD.values()} <= reasons
