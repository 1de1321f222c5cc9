"""W15: page tokens do not show the account's number, and tokens of the version before are refused in words."""

import base64
import hashlib

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller, LocalServer
from tests.wire import failure, publish

pytestmark = pytest.mark.store

READS = ["get", "get_requests"]


def tokens(caller: Caller, read: str) -> str:
    for number in range(2):
        publish(caller, "u", noun.InteractionData(user_action=noun.USER_ACTION_CLICK), request_id=f"{read} {number}")
    page = getattr(caller, read)(user_id="u", page_size=1)
    assert page.next_page_token
    return str(page.next_page_token)


def unpacked(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


@pytest.mark.parametrize("read", READS)
def test_a_number_cannot_be_found_out_by_trying(server: LocalServer, read: str) -> None:
    caller = server.new_caller()
    raw = unpacked(tokens(caller, read))
    request = pb.GetInteractionsRequest(user_id="u") if read == "get" else pb.GetRequestsRequest(user_id="u")
    bodies = [request.SerializeToString(deterministic=True)]
    request.order = pb.ORDER_NEWEST_FIRST
    bodies.append(request.SerializeToString(deterministic=True))
    name = request.DESCRIPTOR.full_name.encode()
    for number in range(5000):
        for text in (number.to_bytes(8, "big"), str(number).encode()):
            for body in bodies:
                assert hashlib.sha256(name + text + body).digest()[:8] not in raw, number


@pytest.mark.parametrize("read", READS)
def test_another_account_cannot_use_it_and_an_older_one_is_told_so(server: LocalServer, read: str) -> None:
    mine, other = server.new_caller(), server.new_caller()
    token = tokens(mine, read)
    tokens(other, read)
    again = getattr(mine, read)(user_id="u", page_size=1, page_token=token)
    assert not again.next_page_token
    found = failure(getattr(other, read), user_id="u", page_size=1, page_token=token)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    older = base64.urlsafe_b64encode(b"\x01" + unpacked(token)[1:]).decode().rstrip("=")
    found = failure(getattr(mine, read), user_id="u", page_size=1, page_token=older)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT
    assert [field for field, _ in found.violations] == ["page_token"]
    assert "earlier version" in found.text
