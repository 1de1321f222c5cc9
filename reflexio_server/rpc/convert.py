"""Messages to the domain's objects and back. Requests have passed validation before they come here."""

import hashlib
from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.ids import new_request_id
from reflexio.v1 import auth_pb2
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import model
from reflexio_server.core.listing import RequestPage
from reflexio_server.core.searching import Found
from reflexio_server.rpc import page_token
from reflexio_server.rpc.pictures import read_header
from reflexio_server.rpc.time_zone import zone_of

DEFAULT_ROLE = "User"
DEFAULT_TOP_K = 10
DEFAULT_PAGE_SIZE = 30
_ACTIONS = {int(action): action for action in model.UserAction}  # a look-up takes a tenth of UserAction(number)


def new_request(request: pb.PublishInteractionsRequest) -> model.NewRequest:
    """A request to publish, with an id of its own if it came without."""
    interactions = tuple(_new_interaction(item) for item in request.interactions)
    return model.NewRequest(
        request_id=request.request_id or new_request_id(request.source),
        user_id=request.user_id,
        request_group=request.request_group,
        source=request.source,
        agent_version=request.agent_version,
        interactions=interactions,
        body_hash=model.body_hash(
            request.user_id, request.request_group, request.source, request.agent_version, interactions
        ),
    )


def _new_interaction(item: noun.InteractionData) -> model.NewInteraction:
    image = None
    if data := item.image:  # each look at the field is another copy
        header = read_header(data)
        image = model.Picture(data, hashlib.sha256(data).digest(), header.media_type, header.width, header.height)
    return model.NewInteraction(
        role=item.role or DEFAULT_ROLE,
        content=item.content,
        user_action=_ACTIONS[item.user_action or noun.USER_ACTION_NONE],
        user_action_description=item.user_action_description,
        interacted_image_url=item.interacted_image_url,
        image=image,
        created_at=_micros(item.created_at) if item.HasField("created_at") else None,
    )


def _micros(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def _micros_up(time: Timestamp) -> int:
    """Stored times are whole microseconds, so a bound between two of them means the upper one."""
    return time.seconds * 1_000_000 + -(-time.nanos // 1000)


def timestamp(micros: int) -> Timestamp:
    time = Timestamp()
    _set(time, micros)
    return time


def _set(time: Timestamp, micros: int) -> None:
    time.seconds, rest = divmod(micros, 1_000_000)
    time.nanos = rest * 1000


def _filter(wanted: pb.InteractionFilter) -> model.Filter:
    return model.Filter(
        request_id=wanted.request_id,
        request_group=wanted.request_group,
        sources=tuple(wanted.sources),
        roles=tuple(wanted.roles),
        user_actions=tuple(model.UserAction(action) for action in wanted.user_actions),
        agent_version=wanted.agent_version,
        start_time=_micros_up(wanted.start_time) if wanted.HasField("start_time") else None,
        end_time=_micros_up(wanted.end_time) if wanted.HasField("end_time") else None,
        most_recent_k=wanted.most_recent_k,
    )


def search_query(request: pb.SearchInteractionsRequest, most_bytes: int) -> model.SearchQuery:
    """A search, by the first `most_bytes` of its query: agents pass whole turns, of which the beginning counts."""
    return model.SearchQuery(
        user_id=request.user_id if request.HasField("user_id") else None,
        query=_beginning(request.query.strip(), most_bytes),
        top_k=request.top_k or DEFAULT_TOP_K,
        min_score=request.min_score,
        filter=_filter(request.filter),
        zone=zone_of(request.time_zone) or UTC,
    )


def _beginning(text: str, most_bytes: int) -> str:
    """Whole words of a text, as many as fit; of a single word what fits."""
    raw = text.encode()
    if len(raw) <= most_bytes:
        return text
    cut = raw[:most_bytes].decode(errors="ignore")
    return cut.rsplit(None, 1)[0]


def page_query(account: model.Account, request: pb.GetInteractionsRequest) -> model.PageQuery:
    """A listing; a token that does not belong to it raises InvalidInput."""
    cursor = None
    if request.page_token:
        cursor = page_token.decode(request.page_token, page_token.fingerprint(account.tag, request))
    return model.PageQuery(
        user_id=request.user_id if request.HasField("user_id") else None,
        filter=_filter(request.filter),
        interaction_ids=tuple(dict.fromkeys(request.interaction_ids)),
        page_size=request.page_size or DEFAULT_PAGE_SIZE,
        oldest_first=request.order == pb.ORDER_OLDEST_FIRST,
        include_images=request.include_images,
        cursor=cursor,
    )


def request_page_query(account: model.Account, request: pb.GetRequestsRequest) -> model.RequestPageQuery:
    """A listing of requests; a token that does not belong to it raises InvalidInput."""
    cursor = None
    if request.page_token:
        cursor = page_token.decode_request(request.page_token, page_token.fingerprint(account.tag, request))
    return model.RequestPageQuery(
        user_id=request.user_id,
        filter=model.RequestFilter(
            request_id=request.request_id,
            request_group=request.request_group,
            start_time=_micros_up(request.start_time) if request.HasField("start_time") else None,
            end_time=_micros_up(request.end_time) if request.HasField("end_time") else None,
        ),
        page_size=request.page_size or DEFAULT_PAGE_SIZE,
        oldest_first=request.order == pb.ORDER_OLDEST_FIRST,
        include_images=request.include_images,
        cursor=cursor,
    )


def search_response(found: Found) -> pb.SearchInteractionsResponse:
    response = pb.SearchInteractionsResponse(unindexed_count=found.unindexed_count)
    for one in found.hits:
        hit = response.hits.add(
            score=one.hit.score,
            semantic=one.hit.semantic,
            lexical=one.hit.lexical,
            near=one.hit.near,
            thread=one.hit.thread,
            answer=one.hit.answer,
            role=one.hit.role,
            time=one.hit.time,
            asks=one.hit.asks,
        )
        if one.item is None:
            hit.abridged = True
            hit.interaction.interaction_id = one.identity.interaction_id
            hit.interaction.user_id = one.identity.user_id
            hit.interaction.request_id = one.identity.request_id
        else:
            _fill(hit.interaction, one.item)
    return response


def page_response(
    account: model.Account, request: pb.GetInteractionsRequest, page: model.Page
) -> pb.GetInteractionsResponse:
    response = pb.GetInteractionsResponse(missing_interaction_ids=page.missing_ids)
    for item in page.items:
        _fill(response.interactions.add(), item)
    if page.next_cursor:
        fingerprint = page_token.fingerprint(account.tag, request)
        response.next_page_token = page_token.encode(page.next_cursor, fingerprint)
    return response


def request_page_response(
    account: model.Account, request: pb.GetRequestsRequest, page: RequestPage
) -> pb.GetRequestsResponse:
    """A page of a user's requests; those of a thread stand together."""
    response = pb.GetRequestsResponse()
    for item in page.items:
        stored = item.request
        groups = response.request_groups
        if not (stored.request_group and groups and groups[-1].request_group == stored.request_group):
            groups.add(request_group=stored.request_group)
        one = groups[-1].requests.add(continues=item.continues)
        one.request.request_id = stored.request_id
        one.request.user_id = stored.user_id
        one.request.request_group = stored.request_group
        one.request.source = stored.source
        one.request.agent_version = stored.agent_version
        one.request.created_at.CopyFrom(timestamp(stored.created_at))
        one.request.stored_at.CopyFrom(timestamp(stored.stored_at))
        for interaction in item.interactions:
            _fill(one.interactions.add(), interaction)
    if page.next_cursor:
        fingerprint = page_token.fingerprint(account.tag, request)
        response.next_page_token = page_token.encode_request(page.next_cursor, fingerprint)
    return response


def _fill(message: noun.Interaction, item: model.PageItem) -> None:
    stored = item.interaction
    message.interaction_id = stored.interaction_id
    message.sequence = stored.sequence
    message.user_id = stored.user_id
    message.request_id = stored.request_id
    message.request_group = stored.request_group
    message.source = stored.source
    message.agent_version = stored.agent_version
    message.role = stored.role
    message.content = stored.content
    message.user_action = noun.UserAction.ValueType(stored.user_action)
    message.user_action_description = stored.user_action_description
    message.interacted_image_url = stored.interacted_image_url
    _set(message.created_at, stored.created_at)
    _set(message.stored_at, stored.stored_at)
    if stored.image:
        message.image.CopyFrom(image(stored.image))
        message.image.data = item.image_data or b""
        message.image.data_omitted = item.image_omitted


def image(info: model.ImageInfo) -> noun.Image:
    return noun.Image(
        sha256=info.sha256,
        media_type=info.media_type,
        width=info.width,
        height=info.height,
        size_bytes=info.size_bytes,
        text=info.text,
    )


def erased(counts: model.ErasedCounts) -> pb.ErasedCounts:
    return pb.ErasedCounts(requests=counts.requests, interactions=counts.interactions, images=counts.images)


def account(stored: model.Account) -> auth_pb2.Account:
    return auth_pb2.Account(email=stored.email, tag=stored.tag, created_at=timestamp(stored.created_at))


def api_key(key: model.ApiKey) -> auth_pb2.ApiKey:
    revoked_at = None if key.revoked_at is None else timestamp(key.revoked_at)
    return auth_pb2.ApiKey(
        key_id=key.key_id, hint=key.hint, created_at=timestamp(key.created_at), revoked_at=revoked_at
    )
