"""The contract by its descriptors: every RPC, a right request for each, calls with raw bytes, random messages."""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb

NEVER_STORED = "01900000-0000-7000-8000-000000000000"  # an id of the right form that nothing has

RPCS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for file in (pb, auth_pb)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every RPC of every service of the contract: whoever adds one has it tested from the first day."""

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Named:
    """What a request may name."""

    user_id: str = "user"
    request_id: str = "request"
    request_group: str = "thread"
    interaction_id: str = NEVER_STORED
    picture_id: str = NEVER_STORED
    """An interaction with a picture."""
    key_id: str = NEVER_STORED
    email: str = "nobody@example.com"
    password: str = "never right"


def _publish(named: Named) -> pb.PublishInteractionsRequest:
    items = [
        noun.InteractionData(role="Agent", content="right", user_action=noun.USER_ACTION_CLICK, image=b"GIF89a"),
        noun.InteractionData(user_action_description="scrolled", interacted_image_url="https://example.com/a"),
    ]
    items[1].created_at.FromSeconds(1_700_000_000)
    return pb.PublishInteractionsRequest(
        user_id=named.user_id,
        request_id=named.request_id,
        request_group=named.request_group,
        source="chat",
        agent_version="1",
        interactions=items,
    )


def _filter(named: Named) -> pb.InteractionFilter:
    return pb.InteractionFilter(
        request_id=named.request_id,
        request_group=named.request_group,
        sources=["chat"],
        roles=["Agent", "User"],
        user_actions=[noun.USER_ACTION_CLICK, noun.USER_ACTION_NONE],
        agent_version="1",
        most_recent_k=100,
    )


_RIGHT: dict[str, Callable[[Named], Message]] = {
    "InteractionService.PublishInteractions": _publish,
    "InteractionService.PublishInteractionStream": lambda named: pb.PublishInteractionStreamRequest(
        request=_publish(named)
    ),
    "InteractionService.SearchInteractions": lambda named: pb.SearchInteractionsRequest(
        user_id=named.user_id, query="what is right?", top_k=5, filter=_filter(named), include_images=True
    ),
    "InteractionService.GetInteractions": lambda named: pb.GetInteractionsRequest(
        user_id=named.user_id, filter=_filter(named), page_size=5, include_images=True
    ),
    "InteractionService.GetRequests": lambda named: pb.GetRequestsRequest(
        user_id=named.user_id, request_id=named.request_id, request_group=named.request_group, page_size=5
    ),
    "InteractionService.GetImage": lambda named: pb.GetImageRequest(interaction_id=named.picture_id),
    "InteractionService.DeleteInteraction": lambda named: pb.DeleteInteractionRequest(
        interaction_id=named.interaction_id, user_id=named.user_id
    ),
    "InteractionService.DeleteRequest": lambda named: pb.DeleteRequestRequest(
        request_id=named.request_id, user_id=named.user_id
    ),
    "InteractionService.DeleteRequestGroup": lambda named: pb.DeleteRequestGroupRequest(
        user_id=named.user_id, request_group=named.request_group
    ),
    "InteractionService.DeleteUser": lambda named: pb.DeleteUserRequest(user_id=named.user_id),
    "AuthService.Login": lambda named: auth_pb.LoginRequest(email=named.email, password=named.password),
    "AuthService.WhoAmI": lambda named: auth_pb.WhoAmIRequest(),
    "AuthService.ListApiKeys": lambda named: auth_pb.ListApiKeysRequest(page_size=5),
    "AuthService.RevokeApiKey": lambda named: auth_pb.RevokeApiKeyRequest(key_id=named.key_id),
}


def right_request(name: str, named: Named) -> Any:
    """A request that an RPC answers with OK when what it names is there. KeyError: a new RPC needs one in `_RIGHT`."""
    return _RIGHT[name.removeprefix("reflexio.v1.")](named)


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def call_raw(
    channel: grpc.Channel,
    method: MethodDescriptor,
    raws: Iterable[bytes],
    metadata: Metadata,
    compression: grpc.Compression | None = None,
) -> list[bytes]:
    """Make any call with bytes as they are, and return the answers; of a unary request only the first is sent."""
    path = path_of(method)
    options: dict[str, Any] = {"metadata": metadata, "timeout": 30, "compression": compression}
    if method.client_streaming:
        assert not method.server_streaming, "teach call_raw the new kind"
        return [channel.stream_unary(path)(iter(raws), **options)]  # type: ignore[arg-type]
    (raw,) = raws
    if method.server_streaming:
        return list(channel.unary_stream(path)(raw, **options))  # type: ignore[arg-type]
    return [channel.unary_unary(path)(raw, **options)]  # type: ignore[arg-type]


_NUMBERS = (0, 1, 2, 5, 1000, 1001, 2**31 - 1)
_TEXTS = ("", " ", "a", "words of a text", "\0", "é" * 300, "🙂", '"*:^(AND', "x" * 70_000, NEVER_STORED)


def random_message(message_type: type[Message], source: random.Random) -> Message:
    """A message with every field set or not, to a value that may be an extreme."""
    message = message_type()
    for field in message.DESCRIPTOR.fields:
        if source.random() >= 0.4:
            set_random(message, field, source)
    return message


def set_random(message: Message, field: Any, source: random.Random) -> None:
    """Set a field of a message to a random value that may be an extreme; one that repeats gets up to three more."""
    count = source.choice((0, 1, 1, 3)) if field.is_repeated else 1
    values = [_random_value(field, source) for _ in range(count)]
    if field.is_repeated:
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(values[0])
    else:
        setattr(message, field.name, values[0])


def _random_value(field: Any, source: random.Random) -> Any:
    if field.message_type is not None:
        return random_message(GetMessageClass(field.message_type), source)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return source.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return source.randbytes(source.choice((0, 1, 100)))
        case FieldDescriptor.TYPE_BOOL:
            return source.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE:
            return source.choice((0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), float("inf"), float("-inf")))
        case FieldDescriptor.TYPE_ENUM:
            return source.choice((0, 1, 2, 3, 4, 99))
        case FieldDescriptor.TYPE_UINT32:
            return source.choice((*_NUMBERS, 2**32 - 1))
        case FieldDescriptor.TYPE_INT32:
            return source.choice((*_NUMBERS, -1, -(2**31)))
        case FieldDescriptor.TYPE_INT64:
            return source.choice((*_NUMBERS, -1, -(2**63), 2**63 - 1))
    raise AssertionError(f"teach random_message the type of {field.full_name}")
