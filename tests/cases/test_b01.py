"""B1: get_requests and iter_requests never merge two requests, also when the rest of one was erased between pages."""

from collections.abc import Iterator
from typing import Any

import pytest

import reflexio
from reflexio.queries import RequestPages
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller
from tests.wire import MICROS, publish, timestamp

pytestmark = pytest.mark.store

Say = noun.InteractionData


def page(*requests: tuple[str, str], token: str = "", continues: bool = False) -> pb.GetRequestsResponse:
    """A page of requests, each with interactions that are named by a letter; the last may go on."""
    answer = pb.GetRequestsResponse(next_page_token=token)
    for number, (request_id, items) in enumerate(requests):
        one = answer.request_groups.add().requests.add(continues=continues and number == len(requests) - 1)
        one.request.request_id = request_id
        for item in items:
            one.interactions.add(interaction_id=item, request_id=request_id)
    return answer


def read(pages: RequestPages, by_token: dict[str, pb.GetRequestsResponse]) -> Iterator[tuple[str, str]]:
    while (message := pages.next()) is not None:
        answer = pb.GetRequestsResponse()
        answer.CopyFrom(by_token[message.page_token])
        for one in pages.read(answer):
            yield one.request.request_id, "".join(item.interaction_id for item in one.interactions)


ERASED = {
    "": page(("Z", "z"), ("A", "a"), token="1", continues=True),
    "1": page(("B", "bc"), ("C", "d"), token="2"),
    "2": page(("D", "e")),
}


@pytest.mark.parametrize(
    ("top_k", "found"),
    [
        (None, ["Zz", "Aa", "Bbc", "Cd", "De"]),
        (2, ["Zz", "Aa"]),
        (3, ["Zz", "Aa", "Bbc"]),
        (4, ["Zz", "Aa", "Bbc", "Cd"]),
    ],
)
def test_what_another_request_follows_is_complete(top_k: int | None, found: list[str]) -> None:
    pages = RequestPages(None, {"user_id": "u", "top_k": top_k}, default_limit=None)
    by_token = dict(ERASED)
    if top_k == 3:  # asked for again with one less, the server gives one less
        answers = [page(("B", "bc"), ("C", "d"), token="2"), page(("B", "bc"), token="3")]

        class Again(dict[str, pb.GetRequestsResponse]):
            def __getitem__(self, token: str) -> pb.GetRequestsResponse:
                return answers.pop(0) if token == "1" else super().__getitem__(token)

        by_token = Again(ERASED)
    assert ["".join(one) for one in read(pages, by_token)] == found


def test_a_request_that_goes_on_over_three_pages_stays_one() -> None:
    by_token = {
        "": page(("A", "a"), token="1", continues=True),
        "1": page(("A", "b"), token="2", continues=True),
        "2": page(("A", "c"), ("B", "d")),
    }
    pages = RequestPages(None, {"user_id": "u"}, default_limit=None)
    assert list(read(pages, by_token)) == [("A", "abc"), ("B", "d")]


def test_the_rest_that_is_erased_at_the_end_leaves_what_there_was() -> None:
    by_token = {"": page(("A", "a"), token="1", continues=True), "1": page()}
    pages = RequestPages(None, {"user_id": "u"}, default_limit=None)
    assert list(read(pages, by_token)) == [("A", "a")]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_an_erase_between_two_pages_of_a_server(caller: Caller, order: str) -> None:
    names = ["large", "next"] if order == "oldest" else ["next", "large"]
    contents = {"large": ["x" * 65_000] * 60, "next": ["y"] * 3}
    for step, name in enumerate(names):
        items = [Say(content=one, created_at=timestamp(MICROS + step * 1000)) for one in contents[name]]
        publish(caller, "u", *items, request_id=name)
    with reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
        found = client.iter_requests(user_id="u", order=order)  # type: ignore[arg-type]
        pages: list[Any] = []
        real: Any = client._call

        def erasing(rpc: Any, message: Any, timeout: float | None) -> Any:
            if pages:
                caller.delete_request("large")
            pages.append(message)
            return real(rpc, message, timeout)

        client._call = erasing  # type: ignore[method-assign, assignment]
        read_back = [(one.request.request_id, {i.request_id for i in one.interactions}) for one in found]
    assert read_back == [("large", {"large"}), ("next", {"next"})]
    assert len(pages) == 2
