"""W2: a page of a long thread takes no more work than one of a short thread."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller, LocalServer

pytestmark = pytest.mark.sqlite  # counts steps of its machine

SHORT, LONG = 50, 8_000  # requests
STEP = 100


def publish(caller: Caller, user_id: str, count: int, request_group: str = "one") -> None:
    items = [noun.InteractionData(user_action=noun.USER_ACTION_CLICK)]
    requests = [
        pb.PublishInteractionsRequest(
            user_id=user_id,
            request_group=request_group,
            request_id=f"{user_id} {request_group} {number}",
            interactions=items,
        )
        for number in range(count)
    ]
    assert caller.stream(requests).requests.stored == count


@contextmanager
def counted(server: LocalServer) -> Iterator[list[int]]:
    """One entry for each so many instructions of SQLite's machine that reads take: unlike time, always the same."""
    steps: list[int] = []

    def count(connection: sqlite3.Connection, *_: object) -> None:
        connection.set_progress_handler(lambda: steps.append(1), STEP)

    event.listen(server.app.database._store.read, "checkout", count)
    try:
        yield steps
    finally:
        event.remove(server.app.database._store.read, "checkout", count)


def page(server: LocalServer, caller: Caller, **asked: Any) -> tuple[pb.GetRequestsResponse, int]:
    """A page of one request, and how many steps it takes; once before, as statements are prepared in steps too."""
    caller.get_requests(page_size=1, **asked)
    with counted(server) as steps:
        found = caller.get_requests(page_size=1, **asked)
    assert sum(len(group.requests) for group in found.request_groups) == 1
    assert steps
    return found, len(steps)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalServer]:
    """Of its own, as who else reads would be counted too."""
    running = LocalServer(tmp_path_factory.mktemp("threads"), model_dir, indexing=False)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def caller(server: LocalServer) -> Caller:
    made = server.new_caller()
    publish(made, "short", SHORT)
    publish(made, "long", LONG)
    publish(made, "long", 1, "another")
    return made


@pytest.mark.parametrize("order", [pb.ORDER_NEWEST_FIRST, pb.ORDER_OLDEST_FIRST])
def test_a_page_of_a_long_thread(server: LocalServer, caller: Caller, order: pb.Order.ValueType) -> None:
    _, few = page(server, caller, user_id="short", order=order)
    asked: dict[str, Any] = {"user_id": "long", "order": order, "request_group": "one"}
    assert page(server, caller, **asked)[1] < 5 * few
    del asked["request_group"]
    first, steps = page(server, caller, **asked)
    assert steps < 5 * few
    token = caller.get_requests(page_size=1_000, **asked).next_page_token
    for _ in range(3):
        token = caller.get_requests(page_size=1_000, page_token=token, **asked).next_page_token
    deep, steps = page(server, caller, page_token=token, **asked)
    assert steps < 5 * few
    numbers = [int(found.request_groups[0].requests[0].request.request_id.split()[-1]) for found in (first, deep)]
    assert abs(numbers[0] - numbers[1]) in (4_000, 3_999), "4,000 of all that the user has, and one is no part of it"


@pytest.mark.parametrize("order", [pb.ORDER_NEWEST_FIRST, pb.ORDER_OLDEST_FIRST])
@pytest.mark.parametrize("bound", ["start_time", "end_time"])
def test_a_bound_inside_of_a_long_thread(
    server: LocalServer, caller: Caller, order: pb.Order.ValueType, bound: str
) -> None:
    """What does not pass may be walked over, once."""
    token = caller.get_requests(user_id="long", page_size=1_000).next_page_token
    for _ in range(3):
        token = caller.get_requests(user_id="long", page_size=1_000, page_token=token).next_page_token
    middle = caller.get_requests(user_id="long", page_size=1, page_token=token).request_groups[0].requests[0].request
    asked: dict[str, Any] = {"user_id": "long", "order": order, bound: middle.created_at}
    _, steps = page(server, caller, **asked)
    assert steps * STEP < 200 * LONG
