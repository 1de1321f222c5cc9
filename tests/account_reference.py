"""A plain reference of what an account holds, and calls that are held against it."""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.reference import (
    GROUPS,
    USERS,
    Place,
    newest_first,
    pages,
    place_of,
    random_request,
    random_requests_scope,
    random_scope,
    selected,
    selected_requests,
    threads,
)
from tests.support import Caller
from tests.wire import NEVER_STORED, expect, failure

WORDS = ("boat", "river", "lamp", "horse", "bread")
TEXTS = ("", *(f"{first} {second}" for first in WORDS for second in WORDS))
PICTURES = (b"", b"", *(b"\x89PNG\r\n\x1a\n" + bytes([number]) for number in range(3)))
REQUESTS = 12  # request_ids there are at a time, so that they meet

Item = noun.Interaction


@dataclass
class Published:
    """A request, the ids that its publisher was told, and its place in the order of requests."""

    request: pb.PublishInteractionsRequest
    ids: list[str]
    place: Place


@dataclass
class Held:
    """What an account holds: interactions newest first, the requests that any of them is of, and the erased ones."""

    items: list[Item] = field(default_factory=list)
    published: dict[str, Published] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)

    def verdict(self, request: pb.PublishInteractionsRequest) -> str:
        """What a publish of this request must come to."""
        known = self.published.get(request.request_id)
        if request.request_id in self.erased:
            return "REQUEST_ERASED"
        if known is None:
            return "stored"
        return "replayed" if known.request == request else "REQUEST_ID_REUSED"

    def add(self, request: pb.PublishInteractionsRequest, items: list[Item]) -> None:
        """A request was stored as these."""
        ids = [item.interaction_id for item in items]
        self.published[request.request_id] = Published(request, ids, place_of(items))
        self.items = sorted([*self.items, *items], key=newest_first)

    def erase(self, is_meant: Callable[[Item], bool]) -> tuple[int, int, int]:
        """Erase what is meant: how many requests, interactions and pictures are gone then."""
        gone = [item for item in self.items if is_meant(item)]
        self.items = [item for item in self.items if not is_meant(item)]
        ended = {item.request_id for item in gone} - {item.request_id for item in self.items}
        for request_id in ended:
            del self.published[request_id]
        self.erased |= ended
        return len(ended), len(gone), len(_pictures(gone) - _pictures(self.items))

    def places(self) -> dict[str, Place]:
        """The places of the requests."""
        return {request_id: published.place for request_id, published in self.published.items()}


def _pictures(items: Iterable[Item]) -> set[bytes]:
    return {item.image.sha256 for item in items if item.HasField("image")}


class Checked:
    """An account on a server beside its reference, whose answers its own must be. All choices are `source`'s."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.held = Held()

    def publish(self, source: random.Random) -> None:
        """Something under one of few ids."""
        request_id = self._request_id(source)
        self._publish(source, random_request(source, request_id, TEXTS, PICTURES))

    def _request_id(self, source: random.Random) -> str:
        """One of few; as those that were erased are never free again, others come to them."""
        return f"request {max(0, len(self.held.erased) - REQUESTS // 4) + source.randrange(REQUESTS)}"

    def replay(self, source: random.Random) -> None:
        """A request that was published before, as it was or with another body."""
        if self.held.published:
            known = self.held.published[source.choice(sorted(self.held.published))]
            request = pb.PublishInteractionsRequest()
            request.CopyFrom(known.request)
            if source.random() < 0.3:
                request.interactions[0].content += " changed"
            self._publish(source, request)

    def _publish(self, source: random.Random, request: pb.PublishInteractionsRequest) -> None:
        wanted = self.held.verdict(request)
        if source.random() < 0.3:
            self._in_stream(request, wanted)
        elif wanted.isupper():
            found = failure(self._unary, request)
            expect(found, grpc.StatusCode.ALREADY_EXISTS, wanted, request_id=request.request_id)
        else:
            sent = pb.PublishInteractionsRequest()
            sent.CopyFrom(request)
            if source.random() < 0.3:
                sent.wait_until = pb.WAIT_UNTIL_SEARCHABLE
            answer = self._unary(sent)
            assert answer.replayed == (wanted == "replayed")
            assert answer.searchable == bool(sent.wait_until)
            if answer.replayed:
                assert list(answer.interaction_ids) == self.held.published[request.request_id].ids
            else:
                self._note(request, list(answer.interaction_ids))

    def _unary(self, request: pb.PublishInteractionsRequest) -> pb.PublishInteractionsResponse:
        return self.caller.interactions.PublishInteractions(request, metadata=self.caller.metadata, timeout=60)

    def _in_stream(self, request: pb.PublishInteractionsRequest, wanted: str) -> None:
        verdict = self.caller.stream([request])
        counts = (verdict.requests.stored, verdict.requests.duplicate, verdict.requests.rejected)
        assert counts == (wanted == "stored", wanted == "replayed", wanted.isupper())
        assert [one.reason for one in verdict.rejections] == [wanted] * wanted.isupper()
        if wanted == "stored":
            stored = self.caller.get(filter=pb.InteractionFilter(request_id=request.request_id), page_size=1000)
            self._note(request, sorted(item.interaction_id for item in stored.interactions))

    def _note(self, request: pb.PublishInteractionsRequest, ids: list[str]) -> None:
        found = {
            item.interaction_id: item for item in self.caller.get(interaction_ids=ids, page_size=1000).interactions
        }
        items = [found[one] for one in ids]
        for item, sent in zip(items, request.interactions, strict=True):
            assert (item.user_id, item.request_id) == (request.user_id, request.request_id)
            assert (item.request_group, item.source, item.agent_version) == (
                request.request_group,
                request.source,
                request.agent_version,
            )
            assert (item.content, item.role, item.image.size_bytes) == (sent.content, sent.role, len(sent.image))
            assert not sent.HasField("created_at") or item.created_at == sent.created_at
        self.held.add(request, items)

    def get(self, source: random.Random) -> None:
        """Interactions of any part, in pages of any size."""
        scope = random_scope(source, len(self.held.erased) + REQUESTS)
        size = source.choice((1, 2, 5, 1000))
        found: list[Item] = []
        token = ""
        while True:
            page = self.caller.get(page_size=size, page_token=token, **scope)
            found += page.interactions
            token = page.next_page_token
            if not token:
                break
        assert found == selected(self.held.items, scope)

    def get_requests(self, source: random.Random) -> None:
        """Requests of any part, in pages of any size."""
        scope = random_requests_scope(source, len(self.held.erased) + REQUESTS)
        found = threads(pages(self.caller, page_size=source.choice((1, 2, 5, 1000)), **scope))
        assert found == selected_requests(self.held.items, scope, self.held.places())

    def search(self, source: random.Random) -> None:
        """Any part of it: what has the word is found, and nothing else that the filter does not mean."""
        scope = random_scope(source, len(self.held.erased) + REQUESTS)
        word = source.choice((*WORDS, "violet", ""))
        answer = self.caller.search(query=word, top_k=1000, **scope)
        found = [hit.interaction for hit in answer.hits]
        wanted = selected(self.held.items, scope)
        if not word:
            assert found == wanted
            return
        assert len({item.interaction_id for item in found}) == len(found)
        assert all(item in wanted for item in found)
        assert all(item in found for item in wanted if word in item.content.split())
        assert answer.unindexed_count == 0 or "user_id" not in scope

    def get_image(self, source: random.Random) -> None:
        """The picture of anything that is there."""
        if self.held.items:
            item = source.choice(self.held.items)
            if item.HasField("image"):
                data = b"".join(self._image(item.interaction_id))
                assert data in PICTURES
                assert len(data) == item.image.size_bytes
            else:
                found = failure(self._image, item.interaction_id)
                expect(found, grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource="image")

    def _image(self, interaction_id: str) -> list[bytes]:
        request = pb.GetImageRequest(interaction_id=interaction_id)
        return [part.data for part in self.caller.interactions.GetImage(request, metadata=self.caller.metadata)]

    def delete_interaction(self, source: random.Random) -> None:
        """One that is there, of the user or of another; or none."""
        item = source.choice(self.held.items) if self.held.items else Item(interaction_id=NEVER_STORED)
        user = self._anybody(source)
        self._erase(
            lambda one: one.interaction_id == item.interaction_id and user.get("user_id", one.user_id) == one.user_id,
            "interaction",
            lambda: self.caller.delete_interaction(item.interaction_id, **user),
        )

    def delete_request(self, source: random.Random) -> None:
        """One of few ids, of the user or of another."""
        request_id = self._request_id(source)
        user = self._anybody(source)
        self._erase(
            lambda one: one.request_id == request_id and user.get("user_id", one.user_id) == one.user_id,
            "request",
            lambda: self.caller.delete_request(request_id, **user),
        )

    def delete_request_group(self, source: random.Random) -> None:
        """A thread of one of few users."""
        user_id, group = source.choice(USERS), source.choice(GROUPS[1:])
        self._erase(
            lambda one: (one.user_id, one.request_group) == (user_id, group),
            "request_group",
            lambda: self.caller.delete_request_group(user_id, group),
        )

    def delete_user(self, source: random.Random) -> None:
        """One of few users."""
        user_id = source.choice(USERS)
        self._erase(lambda one: one.user_id == user_id, "user", lambda: self.caller.delete_user(user_id))

    def _anybody(self, source: random.Random) -> dict[str, Any]:
        return {"user_id": source.choice(USERS)} if source.random() < 0.3 else {}

    def _erase(self, is_meant: Callable[[Item], bool], resource: str, call: Callable[[], pb.ErasedCounts]) -> None:
        requests, interactions, images = self.held.erase(is_meant)
        if not interactions:
            expect(failure(call), grpc.StatusCode.NOT_FOUND, "NOT_FOUND", resource=resource)
            return
        assert call() == pb.ErasedCounts(requests=requests, interactions=interactions, images=images)

    def everything(self) -> None:
        """All that there is."""
        found = self.caller.get(page_size=1000).interactions
        assert list(found) == self.held.items


CALLS: dict[str, Callable[[Checked, random.Random], None]] = {
    "PublishInteractions": Checked.publish,
    "replay": Checked.replay,
    "GetInteractions": Checked.get,
    "GetRequests": Checked.get_requests,
    "SearchInteractions": Checked.search,
    "GetImage": Checked.get_image,
    "DeleteInteraction": Checked.delete_interaction,
    "DeleteRequest": Checked.delete_request,
    "DeleteRequestGroup": Checked.delete_request_group,
    "DeleteUser": Checked.delete_user,
}
