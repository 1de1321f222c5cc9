"""The rules of every request. All violations of a message are found in one walk, bounded in what it keeps."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1.interaction_pb2 import InteractionData, UserAction
from reflexio_server.errors import InvalidInput, Violation
from reflexio_server.rpc.time_zone import zone_of

MOST_KEPT = 20
MOST_IDS = 1000
MOST_VALUES = 100
MOST_PAGE = 1000
_ZONE_BYTES = 64
_MIN_SECONDS, _MAX_SECONDS = -62135596800, 253402300799  # the years 1 to 9999 of protobuf's Timestamp


@cache
def _numbers(enum: Any) -> frozenset[int]:
    return frozenset(enum.values())


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest values. Bytes, but for `interactions`, which is a number."""

    interactions: int = 1000
    content: int = 64 * 1024
    image: int = 8 * 1024 * 1024
    user_id: int = 256
    request_group: int = 256
    agent_version: int = 256
    source: int = 128
    role: int = 128
    request_id: int = 256
    url: int = 2048
    description: int = 4 * 1024
    query: int = 4 * 1024  # what is beyond is cut off
    email: int = 320
    password: int = 1024


class Walk:
    """Collects violations, and raises them together as InvalidInput at the end of its block."""

    def __init__(self) -> None:
        self.inside = ""
        """What the fields that follow are in, such as "interactions[3]"."""
        self._violations: list[Violation] = []
        self._total = 0

    def wrong(self, field: str, description: str, count: int | None = None, maximum: int | None = None) -> None:
        """Note a violation; an empty `field` means all that the walk is inside of."""
        self._total += 1
        if len(self._violations) < MOST_KEPT:
            path = f"{self.inside}.{field}" if self.inside and field else self.inside or field
            self._violations.append(Violation(path, description, count, maximum))

    def over(self, field: str, count: int, maximum: int, unit: str, instead: str) -> None:
        """Note that a limit is exceeded, and what to do instead."""
        self.wrong(field, f"{count:,} {unit}, at most {maximum:,}: {instead}", count, maximum)

    def text(
        self, field: str, value: str, maximum: int, *, required: bool = False, instead: str = "shorten it"
    ) -> None:
        """A text of at most `maximum` bytes without U+0000."""
        if required and not value:
            self.wrong(field, "is required and must not be empty")
        elif "\0" in value:
            self.wrong(field, "must not hold the character U+0000: remove it")
        elif len(value) * 4 > maximum and (size := len(value.encode())) > maximum:
            self.over(field, size, maximum, "bytes", instead)

    def texts(self, field: str, values: Sequence[str], most: int, maximum: int, *, instead: str) -> None:
        """A list of at most `most` texts, none of them empty."""
        if len(values) > most:
            self.over(field, len(values), most, "values", instead)
            return
        for number, value in enumerate(values):
            self.text(f"{field}[{number}]", value, maximum, required=True)

    def time(self, field: str, value: Timestamp) -> None:
        """A timestamp between the years 1 and 9999."""
        if not (_MIN_SECONDS <= value.seconds <= _MAX_SECONDS and 0 <= value.nanos < 1_000_000_000):
            self.wrong(field, "is no time between the years 1 and 9999")

    def zone(self, field: str, value: str) -> None:
        """A time zone by its name, or no name."""
        if "\0" in value or len(value.encode()) > _ZONE_BYTES:
            self.text(field, value, _ZONE_BYTES)
        elif zone_of(value) is None:
            self.wrong(field, 'must be a name of the IANA database ("Europe/Berlin") or an offset ("+02:00")')

    def known(self, field: str, value: int, enum: Any) -> None:
        """A value that the enum has."""
        if value not in _numbers(enum):
            self.wrong(field, f"{value} is none of {', '.join(enum.keys())}")

    def page_size(self, field: str, value: int, *, instead: str = "ask for several pages") -> None:
        """A number of results of at most MOST_PAGE."""
        if value > MOST_PAGE:
            self.over(field, value, MOST_PAGE, "results", instead)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._violations and kind is None:
            raise InvalidInput(self._violations, self._total)


def check_publish(request: pb.PublishInteractionsRequest, limits: Limits, *, in_stream: bool) -> None:
    with Walk() as walk:
        walk.text("user_id", request.user_id, limits.user_id, required=True)
        walk.text("request_group", request.request_group, limits.request_group)
        walk.text("source", request.source, limits.source)
        walk.text("agent_version", request.agent_version, limits.agent_version)
        walk.text("request_id", request.request_id, limits.request_id, required=in_stream)
        walk.known("wait_until", request.wait_until, pb.WaitUntil)
        if in_stream and request.wait_until:
            walk.wrong("wait_until", "must be unset in a stream: each request is stored as it comes")
        count = len(request.interactions)
        if count == 0:
            walk.wrong("interactions", "is required: send at least one interaction")
        elif count > limits.interactions:
            instead = "send several requests, or stream them with PublishInteractionStream"
            walk.over("interactions", count, limits.interactions, "interactions", instead)
        else:
            for number, item in enumerate(request.interactions):
                walk.inside = f"interactions[{number}]"
                _check_interaction(walk, item, limits)


def _check_interaction(walk: Walk, item: InteractionData, limits: Limits) -> None:
    walk.text("role", item.role, limits.role)
    walk.text("content", item.content, limits.content, instead="split it over several interactions")
    walk.known("user_action", item.user_action, UserAction)
    walk.text("user_action_description", item.user_action_description, limits.description)
    walk.text("interacted_image_url", item.interacted_image_url, limits.url)
    image = item.image  # each look at the field is another copy
    if len(image) > limits.image:
        walk.over("image", len(image), limits.image, "bytes", "scale it down or compress it")
    if item.HasField("created_at"):
        walk.time("created_at", item.created_at)
    carries = (
        item.content
        or image
        or item.user_action_description
        or item.interacted_image_url
        or item.user_action not in (UserAction.USER_ACTION_UNSPECIFIED, UserAction.USER_ACTION_NONE)
    )
    if not carries:
        walk.wrong("", "carries nothing: give it content, an image, a user_action, a description or a URL")


def check_search(request: pb.SearchInteractionsRequest, limits: Limits) -> None:
    with Walk() as walk:
        if request.HasField("user_id"):
            walk.text("user_id", request.user_id, limits.user_id, required=True)
        walk.text("query", request.query, sys.maxsize)  # what is over its limit is cut, not refused
        walk.page_size("top_k", request.top_k, instead="narrow the filter, or read all of it page by page")
        if not 0 <= request.min_score <= 1:
            walk.wrong("min_score", "must be between 0 and 1")
        if request.min_score and not request.query.strip():
            walk.wrong("min_score", "needs a query: without one there are no scores")
        walk.zone("time_zone", request.time_zone)
        _check_filter(walk, request.filter, limits)


def check_get(request: pb.GetInteractionsRequest, limits: Limits) -> None:
    with Walk() as walk:
        if request.HasField("user_id"):
            walk.text("user_id", request.user_id, limits.user_id, required=True)
        walk.texts("interaction_ids", request.interaction_ids, MOST_IDS, 64, instead="ask in several calls")
        if request.interaction_ids and request.HasField("filter"):
            walk.wrong("filter", "cannot be combined with interaction_ids: send one of them")
        walk.page_size("page_size", request.page_size)
        walk.known("order", request.order, pb.Order)
        _check_filter(walk, request.filter, limits)


def check_get_requests(request: pb.GetRequestsRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("user_id", request.user_id, limits.user_id, required=True)
        walk.text("request_id", request.request_id, limits.request_id)
        walk.text("request_group", request.request_group, limits.request_group)
        walk.page_size("page_size", request.page_size)
        walk.known("order", request.order, pb.Order)
        if request.HasField("start_time"):
            walk.time("start_time", request.start_time)
        if request.HasField("end_time"):
            walk.time("end_time", request.end_time)


def _check_filter(walk: Walk, wanted: pb.InteractionFilter, limits: Limits) -> None:
    walk.text("filter.request_id", wanted.request_id, limits.request_id)
    walk.text("filter.request_group", wanted.request_group, limits.request_group)
    walk.text("filter.agent_version", wanted.agent_version, limits.agent_version)
    for field, values, maximum in (("sources", wanted.sources, limits.source), ("roles", wanted.roles, limits.role)):
        walk.texts(f"filter.{field}", values, MOST_VALUES, maximum, instead="search without it, or several times")
    if len(wanted.user_actions) > MOST_VALUES:
        walk.over("filter.user_actions", len(wanted.user_actions), MOST_VALUES, "values", "name each once")
    else:
        for number, action in enumerate(wanted.user_actions):
            walk.known(f"filter.user_actions[{number}]", action, UserAction)
            if action == UserAction.USER_ACTION_UNSPECIFIED:
                walk.wrong(f"filter.user_actions[{number}]", "name an action; stored ones are never UNSPECIFIED")
    if wanted.HasField("start_time"):
        walk.time("filter.start_time", wanted.start_time)
    if wanted.HasField("end_time"):
        walk.time("filter.end_time", wanted.end_time)


def check_health(request: health_pb2.HealthCheckRequest) -> None:
    with Walk() as walk:
        walk.text("service", request.service, 256)


def check_get_image(request: pb.GetImageRequest) -> None:
    with Walk() as walk:
        walk.text("interaction_id", request.interaction_id, 64, required=True)


def check_delete_interaction(request: pb.DeleteInteractionRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("interaction_id", request.interaction_id, 64, required=True)
        if request.HasField("user_id"):
            walk.text("user_id", request.user_id, limits.user_id, required=True)


def check_delete_request(request: pb.DeleteRequestRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("request_id", request.request_id, limits.request_id, required=True)
        if request.HasField("user_id"):
            walk.text("user_id", request.user_id, limits.user_id, required=True)


def check_delete_request_group(request: pb.DeleteRequestGroupRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("user_id", request.user_id, limits.user_id, required=True)
        walk.text("request_group", request.request_group, limits.request_group, required=True)


def check_delete_user(request: pb.DeleteUserRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("user_id", request.user_id, limits.user_id, required=True)


def check_login(request: auth_pb.LoginRequest, limits: Limits) -> None:
    with Walk() as walk:
        walk.text("email", request.email, limits.email, required=True)
        walk.text("password", request.password, limits.password, required=True)


def check_list_keys(request: auth_pb.ListApiKeysRequest) -> None:
    with Walk() as walk:
        walk.page_size("page_size", request.page_size)


def check_revoke_key(request: auth_pb.RevokeApiKeyRequest) -> None:
    with Walk() as walk:
        walk.text("key_id", request.key_id, 64, required=True)
