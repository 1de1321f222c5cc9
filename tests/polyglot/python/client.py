"""A connection, the messages of the scenario, and how calls fail."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from reflexio.v1 import auth_service_pb2 as auth
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1.auth_service_pb2_grpc import AuthServiceStub
from reflexio.v1.interaction_service_pb2_grpc import InteractionServiceStub

Report = dict[str, Any]
SECONDS = 60  # no call may take longer


class Client:
    """A channel, and the key that goes with each call."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.channel = grpc.insecure_channel(address)
        self.auth = AuthServiceStub(self.channel)
        self.interactions = InteractionServiceStub(self.channel)
        self.key = ""

    def log_in(self, email: str, password: str) -> auth.LoginResponse:
        answer = self.auth.Login(auth.LoginRequest(email=email, password=password), timeout=SECONDS)
        self.key = answer.api_key
        return answer

    def options(self, key: str | None = None) -> dict[str, Any]:
        key = self.key if key is None else key
        return {"timeout": SECONDS, "metadata": (("authorization", f"Bearer {key}"),) if key else ()}

    def publish(self, request: pb.PublishInteractionsRequest) -> pb.PublishInteractionsResponse:
        return self.interactions.PublishInteractions(request, **self.options())

    def stream(self, requests: Iterable[pb.PublishInteractionsRequest]) -> Report:
        messages = (pb.PublishInteractionStreamRequest(request=request) for request in requests)
        return as_json(self.interactions.PublishInteractionStream(messages, **self.options()))

    def pages(self, **fields: Any) -> Iterator[list[noun.Interaction]]:
        request = pb.GetInteractionsRequest(**fields)
        while True:
            page = self.interactions.GetInteractions(request, **self.options())
            yield list(page.interactions)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def listed(self, **fields: Any) -> list[noun.Interaction]:
        return [item for page in self.pages(order=pb.ORDER_OLDEST_FIRST, **fields) for item in page]

    def wait_for(self, user_id: str, count: int) -> int:
        """How many interactions of the user are stored, once there are so many, or after 10 seconds."""
        for _ in range(200):
            if (found := len(self.listed(user_id=user_id))) >= count:
                break
            time.sleep(0.05)
        return found


def as_json(message: Message) -> Report:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def publish_request(given: Any) -> pb.PublishInteractionsRequest:
    return ParseDict(given, pb.PublishInteractionsRequest())


def say(user_id: str, request_id: str) -> pb.PublishInteractionsRequest:
    """A request with one interaction, which says its request's id."""
    items = [noun.InteractionData(content=request_id)]
    return pb.PublishInteractionsRequest(user_id=user_id, request_id=request_id, interactions=items)


def failure(call: Callable[[], Any]) -> Report:
    """How a call failed, its details in their own types."""
    try:
        call()
    except grpc.RpcError as error:
        return failure_of(error)
    raise AssertionError("the call succeeded")


def failure_of(error: Any) -> Report:
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), None
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Unpack(info) or detail.Unpack(bad):
            continue
        if detail.Unpack(delay := error_details_pb2.RetryInfo()):
            retry = delay.retry_delay.ToTimedelta().total_seconds()
    return {
        "code": error.code().name,
        "message": error.details(),
        "reason": info.reason,
        "domain": info.domain,
        "metadata": dict(info.metadata),
        "violations": [{"field": one.field, "description": one.description} for one in bad.field_violations],
        "retry_after_seconds": retry,
    }


def click(user_id: str, request_id: str) -> pb.PublishInteractionsRequest:
    items = [noun.InteractionData(user_action=noun.USER_ACTION_CLICK)]
    return pb.PublishInteractionsRequest(user_id=user_id, request_id=request_id, interactions=items)


class OpenStream:
    """A publish stream that stays open until it is closed or cancelled."""

    def __init__(self, client: Client, requests: Iterable[pb.PublishInteractionsRequest], seconds: float) -> None:
        self._closed = threading.Event()
        options = client.options() | {"timeout": seconds}
        self.call: Any = client.interactions.PublishInteractionStream.future(self._messages(requests), **options)

    def _messages(
        self, requests: Iterable[pb.PublishInteractionsRequest]
    ) -> Iterator[pb.PublishInteractionStreamRequest]:
        for request in requests:
            yield pb.PublishInteractionStreamRequest(request=request)
        self._closed.wait(SECONDS)

    def end(self) -> None:
        self._closed.set()
