"""Models <-> protobuf, as pure functions. What cannot be sent is refused here with the name of the field."""

import base64
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from reflexio import checks
from reflexio.errors import InvalidArgumentError
from reflexio.ids import new_request_id
from reflexio.models import (
    Account,
    ApiKey,
    Identity,
    Image,
    Interaction,
    InteractionData,
    Request,
    RequestWithInteractions,
    SearchHit,
    UserActionType,
)
from reflexio.outcomes import PublishRequest, PublishUserInteractionResponse
from reflexio.requests import GetInteractionsRequest, GetRequestsRequest, InteractionFilter, SearchInteractionsRequest
from reflexio.v1 import auth_pb2, auth_service_pb2, interaction_pb2
from reflexio.v1 import interaction_service_pb2 as service_pb2

MAX_REQUEST_BYTES = 16 * 1024 * 1024 - 16  # a message is 16 MiB at most; a stream's envelope takes a few bytes
MAX_TOP_K = 1000  # of a search
_LISTED_VIOLATIONS = 20
_DATA_KEYS = tuple(field.name for field in fields(InteractionData))
REQUEST_KEYS = tuple(field.name for field in fields(PublishRequest))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ACTIONS = {interaction_pb2.UserAction.Value(f"USER_ACTION_{a}"): a for a in UserActionType}


# What is sent.


def publish_request(item: object) -> PublishRequest:
    """One item of `publish_many`, a dict or a PublishRequest, as the latter."""
    if isinstance(item, PublishRequest):
        return item
    given = checks.mapping("the request", item)
    checks.known_keys("the request", given, REQUEST_KEYS)
    return PublishRequest(**{"user_id": "", "interactions": (), **given})


def publish_message(request: PublishRequest) -> service_pb2.PublishInteractionsRequest:
    """The message that publishes a request, with a new request_id unless it brings its own."""
    source = checks.text("source", request.source)
    own_id = checks.text("request_id", request.request_id)
    # With an id of the caller's own, doing it all again must send the same again: so no time of ours.
    now = None if own_id else checks.timestamp(time.time_ns() // 1000)
    message = service_pb2.PublishInteractionsRequest(
        user_id=checks.text("user_id", request.user_id, required=True),
        request_group=checks.text("request_group", request.request_group),
        source=source,
        agent_version=checks.text("agent_version", request.agent_version),
        request_id=own_id or new_request_id(source),
    )
    interactions = checks.items("interactions", request.interactions)
    if not interactions:
        checks.refuse("interactions", "is empty: give at least one interaction")
    violations: list[tuple[str, str]] = []
    for index, interaction in enumerate(interactions):
        try:
            message.interactions.append(_interaction_data(f"interactions[{index}]", interaction, now))
        except InvalidArgumentError as error:
            violations += error.violations
    if violations:
        shown = "; ".join(f"{field} {description}" for field, description in violations[:3])
        more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""
        raise InvalidArgumentError(
            shown + more,
            reason="INVALID_FIELD",
            metadata={"violations": str(len(violations))},
            violations=violations[:_LISTED_VIOLATIONS],
        )
    size = message.ByteSize()
    if size > MAX_REQUEST_BYTES:
        description = f"take {size:,} bytes, more than the {MAX_REQUEST_BYTES:,} of one request: use several requests"
        raise InvalidArgumentError(
            f"interactions {description}",
            reason="LIMIT_EXCEEDED",
            metadata={"field": "interactions", "count": str(size), "maximum": str(MAX_REQUEST_BYTES)},
            violations=[("interactions", description)],
        )
    return message


def _interaction_data(where: str, given: object, now: Timestamp | None) -> interaction_pb2.InteractionData:
    if isinstance(given, Interaction):
        get: Mapping[str, Any] = _read_before(where, given)
    elif isinstance(given, InteractionData):
        get = asdict(given)
    else:
        get = checks.mapping(where, given)
        checks.known_keys(where, get, _DATA_KEYS)
    data = interaction_pb2.InteractionData(
        role=checks.text(f"{where}.role", get.get("role")) or "User",
        content=checks.text(f"{where}.content", get.get("content")),
        user_action=checks.action(f"{where}.user_action", get.get("user_action")),
        user_action_description=checks.text(f"{where}.user_action_description", get.get("user_action_description")),
        interacted_image_url=checks.text(f"{where}.interacted_image_url", get.get("interacted_image_url")),
        image=checks.image(f"{where}.image_encoding", get.get("image_encoding")),
        created_at=checks.moment(f"{where}.created_at", get.get("created_at")) or now,
    )
    acted = data.user_action != interaction_pb2.USER_ACTION_NONE
    if not (acted or data.content or data.image or data.user_action_description or data.interacted_image_url):
        checks.refuse(where, "is empty: give content, image_encoding, user_action, a description or a URL")
    return data


def _read_before(where: str, given: Interaction) -> dict[str, Any]:
    """The fields of `InteractionData` of a stored interaction, with its time to the microsecond."""
    if given.image is not None and given.image_encoding is None:
        checks.refuse(f"{where}.image_encoding", "was not read: it has a picture, so read it with include_images=True")
    fields = {key: getattr(given, key) for key in _DATA_KEYS}
    return fields | {"created_at": _EPOCH + timedelta(microseconds=given.created_at_us)}


def search_message(request: SearchInteractionsRequest) -> service_pb2.SearchInteractionsRequest:
    return service_pb2.SearchInteractionsRequest(
        user_id=_whose(request.user_id),
        query=checks.text("query", request.query),
        top_k=checks.count("top_k", request.top_k, MAX_TOP_K),
        min_score=checks.score("min_score", request.min_score),
        filter=_filter(request),
        include_images=checks.flag("include_images", request.include_images),
        time_zone=checks.text("time_zone", request.time_zone),
    )


def get_message(request: GetInteractionsRequest) -> service_pb2.GetInteractionsRequest:
    message = service_pb2.GetInteractionsRequest(
        user_id=_whose(request.user_id),
        interaction_ids=checks.texts("interaction_ids", request.interaction_ids),
        page_token=checks.text("page_token", request.page_token),
        order=_order(request.order),
        include_images=checks.flag("include_images", request.include_images),
    )
    only = _filter(request)
    if only.ByteSize():
        message.filter.CopyFrom(only)
    return message


def get_requests_message(request: GetRequestsRequest) -> service_pb2.GetRequestsRequest:
    return service_pb2.GetRequestsRequest(
        user_id=checks.text("user_id", request.user_id, required=True),
        request_id=checks.text("request_id", request.request_id),
        request_group=checks.text("request_group", request.request_group),
        start_time=checks.moment("start_time", request.start_time),
        end_time=checks.moment("end_time", request.end_time),
        page_token=checks.text("page_token", request.page_token),
        include_images=checks.flag("include_images", request.include_images),
        order=_order(request.order),
    )


def _order(order: str) -> service_pb2.Order.ValueType:
    orders = {"newest": service_pb2.ORDER_NEWEST_FIRST, "oldest": service_pb2.ORDER_OLDEST_FIRST}
    if order not in orders:
        checks.refuse("order", f"must be 'newest' or 'oldest', not {order!r}")
    return orders[order]


def _whose(user_id: object) -> str | None:
    if user_id is None:
        return None
    if user_id == "":
        checks.refuse("user_id", "must not be empty; leave it out to mean the whole account")
    return checks.text("user_id", user_id)


def _filter(request: InteractionFilter) -> service_pb2.InteractionFilter:
    actions = checks.items("user_actions", request.user_actions)
    newest = request.most_recent_k
    return service_pb2.InteractionFilter(
        request_id=checks.text("request_id", request.request_id),
        request_group=checks.text("request_group", request.request_group),
        sources=checks.texts("sources", request.sources),
        roles=checks.texts("roles", request.roles),
        user_actions=[checks.action(f"user_actions[{i}]", action) for i, action in enumerate(actions)],
        agent_version=checks.text("agent_version", request.agent_version),
        start_time=checks.moment("start_time", request.start_time),
        end_time=checks.moment("end_time", request.end_time),
        most_recent_k=0 if newest is None else checks.count("most_recent_k", newest),
    )


# What is received.


def interaction(message: interaction_pb2.Interaction) -> Interaction:
    created, stored = _microseconds(message.created_at), _microseconds(message.stored_at)
    return Interaction(
        interaction_id=message.interaction_id,
        sequence=message.sequence,
        user_id=message.user_id,
        request_id=message.request_id,
        request_group=message.request_group,
        source=message.source,
        agent_version=message.agent_version,
        role=message.role,
        content=message.content,
        user_action=_ACTIONS.get(message.user_action, UserActionType.NONE),
        user_action_description=message.user_action_description,
        interacted_image_url=message.interacted_image_url,
        created_at=created // 1_000_000,
        created_at_us=created,
        stored_at=stored // 1_000_000,
        stored_at_us=stored,
        image=_image(message.image) if message.HasField("image") else None,
        image_encoding=image_encoding(message.image.data) if message.image.data else None,
    )


def image_encoding(data: bytes) -> str:
    """A picture as base64 text."""
    return base64.b64encode(data).decode("ascii")


def _image(message: interaction_pb2.Image) -> Image:
    return Image(
        message.sha256.hex(), message.media_type, message.width, message.height, message.size_bytes, message.text
    )


def search_hit(message: service_pb2.SearchHit) -> SearchHit:
    """A hit; when it is abridged, its interaction has only ids."""
    return SearchHit(
        interaction=interaction(message.interaction),
        score=message.score,
        semantic=message.semantic,
        lexical=message.lexical,
        near=message.near,
        thread=message.thread,
        answer=message.answer,
        role=message.role,
        time=message.time,
        asks=message.asks,
        abridged=message.abridged,
    )


def request_with_interactions(message: service_pb2.RequestWithInteractions) -> RequestWithInteractions:
    head = message.request
    created, stored = _microseconds(head.created_at), _microseconds(head.stored_at)
    request = Request(
        request_id=head.request_id,
        user_id=head.user_id,
        request_group=head.request_group,
        source=head.source,
        agent_version=head.agent_version,
        created_at=created // 1_000_000,
        created_at_us=created,
        stored_at=stored // 1_000_000,
        stored_at_us=stored,
    )
    return RequestWithInteractions(request, [interaction(i) for i in message.interactions])


def published(message: service_pb2.PublishInteractionsResponse) -> PublishUserInteractionResponse:
    return PublishUserInteractionResponse(
        success=True,
        message="stored and searchable" if message.searchable else "stored; not all of it is found by meaning yet",
        request_id=message.request_id,
        interaction_ids=list(message.interaction_ids),
        searchable=message.searchable,
        replayed=message.replayed,
    )


def account(message: auth_pb2.Account) -> Account:
    return Account(message.email, message.tag, message.created_at.seconds)


def api_key(message: auth_pb2.ApiKey) -> ApiKey:
    revoked_at = message.revoked_at.seconds if message.HasField("revoked_at") else None
    return ApiKey(message.key_id, message.hint, message.created_at.seconds, revoked_at)


def identity(message: auth_service_pb2.WhoAmIResponse) -> Identity:
    return Identity(account(message.account), api_key(message.api_key))


def _microseconds(moment: Timestamp) -> int:
    return moment.seconds * 1_000_000 + moment.nanos // 1000
