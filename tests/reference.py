"""A plain reference of what a filter means, and random data and filters to hold it against."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller
from tests.wire import MIB, MICROS, everything, micros_of, timestamp

USERS = ("ann", "bob", "Ann")
GROUPS = ("", "trip", "order")
SOURCES = ("", "chat", "app")
VERSIONS = ("", "1.0", "1.1")
ROLES = ("User", "Agent", "agent")
ACTIONS = (noun.USER_ACTION_NONE, noun.USER_ACTION_CLICK, noun.USER_ACTION_SCROLL, noun.USER_ACTION_TYPE)
TIMES = tuple(MICROS + step for step in (-2_000_000, -1, 0, 1, 2, 999_999, 1_000_000, 86_400_000_000))


def fill(caller: Caller, source: random.Random, requests: int, texts: Sequence[str] = ("",)) -> list[noun.Interaction]:
    """Publish random requests of few values, so that they meet, and return all of it, newest first.

    Each says one of the texts; those without are actions, which make no work for the index.
    """
    messages = [random_request(source, f"request {number}", texts) for number in range(requests)]
    assert caller.stream(messages).requests.stored == requests
    stored = everything(caller)
    assert len(stored) == sum(len(message.interactions) for message in messages)
    return sorted(stored, key=newest_first)


def random_request(
    source: random.Random, request_id: str, texts: Sequence[str], pictures: Sequence[bytes] = (b"",)
) -> pb.PublishInteractionsRequest:
    """A request of few values: up to seven interactions, each with one of the texts and of the pictures."""
    items = [
        noun.InteractionData(
            content=content,
            role=source.choice(ROLES),
            user_action=source.choice(ACTIONS if content else ACTIONS[1:]),
            created_at=timestamp(source.choice(TIMES)) if source.random() < 0.9 else None,
            image=source.choice(pictures),
        )
        for content in [source.choice(texts) for _ in range(source.randrange(1, 8))]
    ]
    return pb.PublishInteractionsRequest(
        user_id=source.choice(USERS),
        request_group=source.choice(GROUPS),
        source=source.choice(SOURCES),
        agent_version=source.choice(VERSIONS),
        request_id=request_id,
        interactions=items,
    )


def newest_first(item: noun.Interaction) -> tuple[int, int]:
    """A key to sort by: the later first, and of equal times the greater id first."""
    return -micros_of(item.created_at), -int(item.interaction_id.replace("-", ""), 16)


def random_scope(source: random.Random, requests: int) -> dict[str, Any]:
    """A user or none, and a filter of any number of conditions."""
    scope: dict[str, Any] = {"user_id": source.choice(USERS)} if source.random() < 0.6 else {}
    choices: dict[str, Any] = {
        "request_id": f"request {source.randrange(requests + 2)}",
        "request_group": source.choice(GROUPS[1:]),
        "sources": source.sample(SOURCES[1:], source.randrange(1, 3)),
        "roles": source.sample(ROLES, source.randrange(1, 3)),
        "user_actions": source.sample(ACTIONS, source.randrange(1, 3)),
        "agent_version": source.choice(VERSIONS[1:]),
        "start_time": timestamp(source.choice(TIMES)),
        "end_time": timestamp(source.choice(TIMES)),
        "most_recent_k": source.choice((1, 2, 3, 5, 10, 50, 10_000)),
    }
    names = source.sample(list(choices), source.choice((0, 1, 1, 1, 2, 2, 3, len(choices))))
    return scope | {"filter": pb.InteractionFilter(**{name: choices[name] for name in names})}


def selected(stored: Sequence[noun.Interaction], scope: dict[str, Any]) -> list[noun.Interaction]:
    """Which of all that is stored (newest first) are meant, newest first."""
    wanted: pb.InteractionFilter = scope["filter"]

    def passes(item: noun.Interaction) -> bool:
        when = micros_of(item.created_at)
        return (
            scope.get("user_id", item.user_id) == item.user_id
            and wanted.request_id in ("", item.request_id)
            and wanted.request_group in ("", item.request_group)
            and (not wanted.sources or item.source in wanted.sources)
            and (not wanted.roles or item.role.casefold() in {role.casefold() for role in wanted.roles})
            and (not wanted.user_actions or item.user_action in wanted.user_actions)
            and wanted.agent_version in ("", item.agent_version)
            and (not wanted.HasField("start_time") or when >= micros_of(wanted.start_time))
            and (not wanted.HasField("end_time") or when < micros_of(wanted.end_time))
        )

    found = [item for item in stored if passes(item)]
    return found[: wanted.most_recent_k] if wanted.most_recent_k else found


def random_requests_scope(source: random.Random, requests: int) -> dict[str, Any]:
    """A user, an order, and any number of conditions of GetRequests."""
    choices: dict[str, Any] = {
        "request_id": f"request {source.randrange(requests + 2)}",
        "request_group": source.choice(GROUPS[1:]),
        "start_time": timestamp(source.choice(TIMES)),
        "end_time": timestamp(source.choice(TIMES)),
    }
    names = source.sample(list(choices), source.choice((0, 1, 1, 2, 3, 4)))
    order = source.choice((pb.ORDER_UNSPECIFIED, pb.ORDER_OLDEST_FIRST))
    return {"user_id": source.choice(USERS), "order": order} | {name: choices[name] for name in names}


Threads = list[tuple[str, list[tuple[str, list[str]]]]]
"""Threads by name, with their requests by id, with the ids of their interactions."""


Place = tuple[int, int]


def place_of(items: Sequence[noun.Interaction]) -> Place:
    """A request's place in the order of requests, told from all that it published."""
    return min(micros_of(item.created_at) for item in items), max(item.sequence for item in items)


def selected_requests(
    stored: Sequence[noun.Interaction], scope: dict[str, Any], places: Mapping[str, Place] | None = None
) -> Threads:
    """Which requests of all that is stored are meant, by thread, in the order of GetRequests.

    `places` of the requests, where they are not told from what is stored, as a part of them was erased.
    """
    by_request: dict[str, list[noun.Interaction]] = {}
    for item in sorted(stored, key=newest_first, reverse=True):
        by_request.setdefault(item.request_id, []).append(item)
    start, end = (micros_of(scope[name]) if name in scope else None for name in ("start_time", "end_time"))

    def passes(items: list[noun.Interaction]) -> bool:
        return (
            items[0].user_id == scope["user_id"]
            and scope.get("request_id", items[0].request_id) == items[0].request_id
            and scope.get("request_group", items[0].request_group) == items[0].request_group
            and any(
                (start is None or micros_of(item.created_at) >= start)
                and (end is None or micros_of(item.created_at) < end)
                for item in items
            )
        )

    def place(items: list[noun.Interaction]) -> Place:
        return place_of(items) if places is None else places[items[0].request_id]

    threads: dict[tuple[str, str], list[list[noun.Interaction]]] = {}
    forward = scope.get("order") == pb.ORDER_OLDEST_FIRST
    for items in sorted(filter(passes, by_request.values()), key=place, reverse=not forward):
        alone = "" if items[0].request_group else items[0].request_id
        threads.setdefault((items[0].request_group, alone), []).append(items)
    return [
        (name, [(items[0].request_id, [item.interaction_id for item in items]) for items in found])
        for (name, _), found in threads.items()
    ]


def pages(caller: Caller, **fields: Any) -> list[pb.GetRequestsResponse]:
    """Every page, each at most as large as any client can receive."""
    found = [caller.get_requests(**fields)]
    while found[-1].next_page_token:
        found.append(caller.get_requests(page_token=found[-1].next_page_token, **fields))
    assert max(page.ByteSize() for page in found) <= 3 * MIB
    return found


def threads(found: Iterable[pb.GetRequestsResponse]) -> Threads:
    """What the pages say, a thread or request that goes on put together."""
    together: Threads = []
    goes_on = False
    for group in (group for page in found for group in page.request_groups):
        if not (goes_on or (group.request_group and together and together[-1][0] == group.request_group)):
            together.append((group.request_group, []))
        for one in group.requests:
            ids = [item.interaction_id for item in one.interactions]
            if goes_on:
                assert together[-1][1][-1][0] == one.request.request_id
                together[-1][1][-1][1].extend(ids)
            else:
                together[-1][1].append((one.request.request_id, ids))
            goes_on = one.continues
    assert not goes_on
    return together
