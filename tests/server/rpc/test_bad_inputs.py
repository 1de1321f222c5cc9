"""Every field of every RPC, wrong in every way its type allows: the code, the reason, the field, the limit.

The cases are made from the descriptors. A new field fails here until the tables below say what it may hold, a new RPC
until there is a right request for it in tools/contract.py.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc.publish_messages import MOST_REQUESTS
from reflexio_server.rpc.validation import MOST_IDS, MOST_PAGE, MOST_VALUES, Limits
from tests.support import Caller, LocalServer
from tests.wire import expect, failure
from tools.contract import NEVER_STORED, RPCS, Named, call_raw, right_request

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIMITS = Limits()
ID = 64  # bytes of the ids that the server makes
CUT = 0  # no text is too long: what is beyond the limit is cut off

# The bytes that a text may have, by message and field; None: a page token, which is checked in another way.
TEXTS: dict[str, int | None] = {
    "PublishInteractionsRequest.user_id": LIMITS.user_id,
    "PublishInteractionsRequest.request_group": LIMITS.request_group,
    "PublishInteractionsRequest.source": LIMITS.source,
    "PublishInteractionsRequest.agent_version": LIMITS.agent_version,
    "PublishInteractionsRequest.request_id": LIMITS.request_id,
    "InteractionData.role": LIMITS.role,
    "InteractionData.content": LIMITS.content,
    "InteractionData.user_action_description": LIMITS.description,
    "InteractionData.interacted_image_url": LIMITS.url,
    "InteractionFilter.request_id": LIMITS.request_id,
    "InteractionFilter.request_group": LIMITS.request_group,
    "InteractionFilter.sources": LIMITS.source,
    "InteractionFilter.roles": LIMITS.role,
    "InteractionFilter.agent_version": LIMITS.agent_version,
    "SearchInteractionsRequest.user_id": LIMITS.user_id,
    "SearchInteractionsRequest.query": CUT,
    "SearchInteractionsRequest.time_zone": 64,
    "GetInteractionsRequest.user_id": LIMITS.user_id,
    "GetInteractionsRequest.interaction_ids": ID,
    "GetInteractionsRequest.page_token": None,
    "GetRequestsRequest.user_id": LIMITS.user_id,
    "GetRequestsRequest.request_id": LIMITS.request_id,
    "GetRequestsRequest.request_group": LIMITS.request_group,
    "GetRequestsRequest.page_token": None,
    "GetImageRequest.interaction_id": ID,
    "DeleteInteractionRequest.interaction_id": ID,
    "DeleteInteractionRequest.user_id": LIMITS.user_id,
    "DeleteRequestRequest.request_id": LIMITS.request_id,
    "DeleteRequestRequest.user_id": LIMITS.user_id,
    "DeleteRequestGroupRequest.user_id": LIMITS.user_id,
    "DeleteRequestGroupRequest.request_group": LIMITS.request_group,
    "DeleteUserRequest.user_id": LIMITS.user_id,
    "LoginRequest.email": LIMITS.email,
    "LoginRequest.password": LIMITS.password,
    "ListApiKeysRequest.page_token": None,
    "RevokeApiKeyRequest.key_id": ID,
}
# Fields that must not be empty when they are there; the values of a list never may.
REQUIRED = {
    "PublishInteractionsRequest.user_id",
    "InteractionFilter.sources",
    "InteractionFilter.roles",
    "SearchInteractionsRequest.user_id",
    "GetInteractionsRequest.user_id",
    "GetInteractionsRequest.interaction_ids",
    "GetRequestsRequest.user_id",
    "GetImageRequest.interaction_id",
    "DeleteInteractionRequest.interaction_id",
    "DeleteInteractionRequest.user_id",
    "DeleteRequestRequest.request_id",
    "DeleteRequestRequest.user_id",
    "DeleteRequestGroupRequest.user_id",
    "DeleteRequestGroupRequest.request_group",
    "DeleteUserRequest.user_id",
    "LoginRequest.email",
    "LoginRequest.password",
    "RevokeApiKeyRequest.key_id",
}
# The largest number, or the most values; None: every one that fits its type.
MOST: dict[str, int | None] = {
    "PublishInteractionsRequest.interactions": LIMITS.interactions,
    "InteractionData.image": LIMITS.image,
    "PublishInteractionStreamRequest.requests": MOST_REQUESTS,
    "InteractionFilter.sources": MOST_VALUES,
    "InteractionFilter.roles": MOST_VALUES,
    "InteractionFilter.user_actions": MOST_VALUES,
    "InteractionFilter.most_recent_k": None,
    "SearchInteractionsRequest.top_k": MOST_PAGE,
    "SearchInteractionsRequest.min_score": None,  # 0 to 1
    "GetInteractionsRequest.interaction_ids": MOST_IDS,
    "GetInteractionsRequest.page_size": MOST_PAGE,
    "GetRequestsRequest.page_size": MOST_PAGE,
    "ListApiKeysRequest.page_size": MOST_PAGE,
}
NO_TIMES = [(253402300800, 0), (-62135596801, 0), (0, -1), (0, 1_000_000_000), (2**63 - 1, 0), (-(2**63), 0)]
NO_TOKENS = ["junk", "=", "é", "\0", "A" * 5000, " "]
NO_SCORES = [-0.001, 1.001, math.nan, math.inf, -math.inf]


@dataclass(frozen=True)
class Place:
    """A field somewhere in a request, and how to reach it from the right request."""

    rpc: str
    path: str
    field: FieldDescriptor
    outer: tuple[str, ...]

    @property
    def key(self) -> str:
        return ".".join(self.field.full_name.split(".")[-2:])

    def inside(self, message: Any) -> Any:
        """The message that has the field."""
        for name in self.outer:
            inner = getattr(message, name)
            message = inner[0] if message.DESCRIPTOR.fields_by_name[name].is_repeated else inner
        return message


@dataclass(frozen=True)
class Bad:
    """A request that is right but for one thing."""

    name: str
    rpc: str
    change: Callable[[Any], None]
    field: str
    count: int | None = None
    maximum: int | None = None
    said: str = ""


def places(rpc: str) -> list[Place]:
    """Every field of an RPC's request at any depth, but what is inside a timestamp."""

    def inside(descriptor: Any, path: str, outer: tuple[str, ...]) -> Iterator[Place]:
        for field in descriptor.fields:
            here = f"{path}.{field.name}".lstrip(".")
            yield Place(rpc, here, field, outer)
            if field.message_type is not None and field.message_type is not Timestamp.DESCRIPTOR:
                yield from inside(field.message_type, here + "[0]" * field.is_repeated, (*outer, field.name))

    return list(inside(RPCS[rpc].input_type, "", ()))


PLACES = [place for rpc in sorted(RPCS) for place in places(rpc)]


def _inside_request(path: str) -> str:
    """Of a stream's message: what is wrong with a request is named inside it."""
    return path.removeprefix("request.").removeprefix("requests[0].")


def case(place: Place, what: str, value: Any, **more: Any) -> Bad:
    """The right request with another value, or with another list of values, at a place."""
    path = _inside_request(place.path)

    def change(message: Any) -> None:
        if place.path.startswith("requests"):  # the other field of a stream's message
            message.requests.append(message.request)
            message.ClearField("request")
        inside = place.inside(message)
        if place.key == "GetInteractionsRequest.interaction_ids":
            inside.ClearField("filter")  # the two exclude each other
        if place.field.is_repeated:
            inside.ClearField(place.field.name)
            getattr(inside, place.field.name).extend(value)
        elif place.field.message_type is not None:
            target = getattr(inside, place.field.name)
            target.seconds, target.nanos = value
        else:
            setattr(inside, place.field.name, value)

    short = place.rpc.split(".")[-1]
    return Bad(
        f"{short} {place.path.removeprefix('request.')} {what}", place.rpc, change, more.pop("field", path), **more
    )


def of_place(place: Place) -> Iterator[Bad]:
    """All that can be wrong with one field by its type and its limits."""
    path = _inside_request(place.path)
    repeated: Any = place.field.is_repeated
    match place.field.type:
        case FieldDescriptor.TYPE_STRING:
            maximum = TEXTS[place.key]
            first = {"field": f"{path}[0]"} if repeated else {}
            if maximum is None:
                for number, token in enumerate(NO_TOKENS):
                    yield case(place, f"is no token ({number})", token, said="is not a page token")
            else:
                if maximum != CUT:
                    long = "é" * (maximum // 2) + "x" * (maximum % 2 + 1)
                    limit = {"count": maximum + 1, "maximum": maximum}
                    yield case(place, "is too long", [long] if repeated else long, **limit, **first)
                nul = "a\0b"
                yield case(place, "holds U+0000", [nul] if repeated else nul, said="U+0000", **first)
            if place.key in REQUIRED or (place.rpc.endswith("Stream") and path == "request_id"):
                yield case(place, "is empty", [""] if repeated else "", said="is required", **first)
        case FieldDescriptor.TYPE_ENUM:
            for number in (99, -1):
                named = {"field": f"{path}[0]"} if repeated else {}
                yield case(place, f"is {number}", [number] if repeated else number, said="is none of ", **named)
        case FieldDescriptor.TYPE_DOUBLE:
            for value in NO_SCORES:
                yield case(place, f"is {value}", value, said="between 0 and 1")
        case FieldDescriptor.TYPE_UINT32:
            maximum = MOST[place.key]
            for value in [] if maximum is None else [maximum + 1, 2**32 - 1]:
                yield case(place, f"is {value}", value, count=value, maximum=maximum)
        case FieldDescriptor.TYPE_BYTES:
            maximum = MOST[place.key]
            assert maximum
            yield case(place, "is too large", bytes(maximum + 1), count=maximum + 1, maximum=maximum)
        case FieldDescriptor.TYPE_MESSAGE if place.field.message_type is Timestamp.DESCRIPTOR:
            for seconds, nanos in NO_TIMES:
                yield case(place, f"is {seconds} s {nanos} ns", (seconds, nanos), said="between the years 1 and 9999")
    if repeated:
        most = MOST[place.key]
        assert most
        one: Any = {FieldDescriptor.TYPE_STRING: "x", FieldDescriptor.TYPE_ENUM: 1}.get(place.field.type)
        kind = place.field.message_type
        values = [one if kind is None else GetMessageClass(kind)()] * (most + 1)
        yield case(place, "has too many", values, count=most + 1, maximum=most)


def _publish(message: Any) -> Any:
    return message.request if message.DESCRIPTOR.name.endswith("StreamRequest") else message


def _second_item(item: noun.InteractionData) -> Callable[[Any], None]:
    return lambda message: _publish(message).interactions[1].CopyFrom(item)


def _merge(other: Any, *without: str) -> Callable[[Any], None]:
    """Add what is set in another message."""

    def change(message: Any) -> None:
        for name in without:
            _publish(message).ClearField(name)
        _publish(message).MergeFrom(other)

    return change


def by_hand() -> Iterator[Bad]:
    """What no single field shows."""
    nothing = {
        "is empty": noun.InteractionData(),
        "has only a role": noun.InteractionData(role="Agent"),
        "has only NONE": noun.InteractionData(user_action=noun.USER_ACTION_NONE),
        "has only a time": noun.InteractionData(created_at=Timestamp(seconds=1)),
    }
    without = pb.PublishInteractionsRequest()
    scored = pb.SearchInteractionsRequest(min_score=0.5)
    unspecified = pb.InteractionFilter(user_actions=[noun.USER_ACTION_UNSPECIFIED])
    none = _merge(without, "interactions")
    found: list[tuple[str, str, Callable[[Any], None], str, str]] = []
    for rpc in ("PublishInteractions", "PublishInteractionStream"):
        for what, item in nothing.items():
            found.append((rpc, f"interactions[1] {what}", _second_item(item), "interactions[1]", "carries nothing"))
        found.append((rpc, "interactions is empty", none, "interactions", "at least one interaction"))
    for until in (pb.WAIT_UNTIL_STORED, pb.WAIT_UNTIL_SEARCHABLE):
        waits = _merge(pb.PublishInteractionsRequest(wait_until=until))
        what = f"wait_until is {until}"
        found.append(("PublishInteractionStream", what, waits, "wait_until", "must be unset in a stream"))
    for query in ("", " \n "):
        asked = pb.SearchInteractionsRequest(query=query)
        asked.MergeFrom(scored)
        what = f"min_score with the query {query!r}"
        found.append(("SearchInteractions", what, _merge(asked, "query"), "min_score", "needs a query"))
    for rpc, request in (
        ("SearchInteractions", pb.SearchInteractionsRequest(filter=unspecified)),
        ("GetInteractions", pb.GetInteractionsRequest(filter=unspecified)),
    ):
        change = _merge(request)
        found.append((rpc, "filter.user_actions has UNSPECIFIED", change, "filter.user_actions[2]", "name an action"))
    for zone in (
        "Nowhere",
        "Europe",
        "europe/nowhere",
        "+24:00",
        "02:00",
        "+2",
        "../UTC",
        "/etc/passwd",
        " UTC",
        "UTC\n",
    ):
        change = _merge(pb.SearchInteractionsRequest(time_zone=zone))
        found.append(("SearchInteractions", f"time_zone is {zone!r}", change, "time_zone", "of the IANA database"))
    both = _merge(pb.GetInteractionsRequest(interaction_ids=[NEVER_STORED]))
    found.append(("GetInteractions", "interaction_ids with a filter", both, "filter", "send one of them"))
    for rpc, what, change, field, said in found:
        yield Bad(f"{rpc} {what}", f"reflexio.v1.InteractionService.{rpc}", change, field, said=said)


CASES = [bad for place in PLACES for bad in of_place(place)] + list(by_hand())


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    """One account for all of these: what is refused leaves nothing behind."""
    return server.new_caller()


def test_there_are_enough_and_each_has_a_name() -> None:
    assert len(CASES) >= 150
    assert len({bad.name for bad in CASES}) == len(CASES)
    assert {bad.rpc for bad in CASES} == {rpc for rpc in RPCS if RPCS[rpc].input_type.fields}


def test_every_field_says_what_it_may_hold() -> None:
    """A new field must be entered in the tables above, and nothing may stay there that is gone."""
    found = {place.key: place.field for place in PLACES}
    texts = {key for key, field in found.items() if field.type == FieldDescriptor.TYPE_STRING}
    numbers = {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_BYTES}
    bounded = {key for key, field in found.items() if field.type in numbers or field.is_repeated}
    others = {FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_ENUM, FieldDescriptor.TYPE_BOOL}
    assert set(TEXTS) == texts
    assert set(MOST) == bounded
    assert texts >= REQUIRED
    assert {field.type for key, field in found.items() if key not in texts | bounded} <= others, "teach of_place it"


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.name)
def test_bad_input(caller: Caller, bad: Bad) -> None:
    method = RPCS[bad.rpc]
    message = right_request(bad.rpc, Named(request_id=bad.name[:200]))
    bad.change(message)
    raw = message.SerializeToString()
    limited = bad.maximum is not None
    if method.client_streaming:
        (answer,) = call_raw(caller.channel, method, [raw], caller.metadata)
        (rejection,) = pb.PublishInteractionStreamResponse.FromString(answer).rejections
        assert rejection.reason == ("LIMIT_EXCEEDED" if limited else "INVALID_FIELD")
        field, description = rejection.field, rejection.message
    else:
        found = failure(call_raw, caller.channel, method, [raw], caller.metadata)
        if limited:
            expect(found, INVALID, "LIMIT_EXCEEDED", field=bad.field, count=str(bad.count), maximum=str(bad.maximum))
        else:
            expect(found, INVALID, "INVALID_FIELD", violations="1")
        ((field, description),) = found.violations
        assert found.text == f"{field}: {description}"
        assert found.retry_seconds is None
    assert field == bad.field
    assert bad.said in description
    if limited:
        assert description.startswith(f"{bad.count:,} ")
        assert f", at most {bad.maximum:,}: " in description, "what to use instead follows the colon"


@pytest.mark.parametrize("rpc", sorted(RPCS))
def test_the_right_request_is_none_of_them(caller: Caller, rpc: str) -> None:
    """Also with every text as long as it may be; else the cases above could be refused for something else."""
    for longest in (False, True):
        message = right_request(rpc, Named(request_id=f"right {rpc}"))
        for place in [one for one in places(rpc) if not one.path.startswith("requests")] if longest else []:
            maximum = TEXTS.get(place.key)
            if maximum is not None and not place.field.is_repeated and place.field.name != "time_zone":
                setattr(place.inside(message), place.field.name, "é" * (maximum // 2) + "x" * (maximum % 2))
        try:
            (*_, answer) = call_raw(caller.channel, RPCS[rpc], [message.SerializeToString()], caller.metadata)
        except grpc.RpcError as error:
            assert error.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAUTHENTICATED}, error
        else:
            if RPCS[rpc].client_streaming:
                assert not pb.PublishInteractionStreamResponse.FromString(answer).rejections
