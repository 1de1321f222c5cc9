"""Reads without their I/O: each object gives the messages to send and gathers what comes back.

Both clients carry the messages; everything else about a read is here, once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from reflexio import checks, convert
from reflexio.errors import InvalidArgumentError
from reflexio.models import (
    GetInteractionsResponse,
    GetRequestsResponse,
    Interaction,
    RequestGroup,
    RequestWithInteractions,
    SearchInteractionsResponse,
)
from reflexio.requests import GetInteractionsRequest, GetRequestsRequest, SearchInteractionsRequest
from reflexio.v1 import interaction_service_pb2 as pb

R = TypeVar("R", SearchInteractionsRequest, GetInteractionsRequest, GetRequestsRequest)
Fields = Mapping[str, Any]
_MAX_PAGE = 1000


def _request_of(kind: type[R], request: R | Fields | None, keywords: Fields) -> R:
    """The request of a read that takes a request object, a dict or keywords."""
    names = [field.name for field in fields(kind)]
    if request is None:
        for name in keywords:
            if name not in names:  # a wrong keyword is what Python itself calls a TypeError
                raise TypeError(f"unexpected keyword argument {name!r}; there are {', '.join(names)}")
        return kind(**keywords)
    if keywords:
        raise InvalidArgumentError(f"give either a request or keywords, not both: {', '.join(keywords)}")
    if isinstance(request, kind):
        return request
    given = checks.mapping("request", request)
    checks.known_keys("request", given, names)
    return kind(**given)


def without_picture(interactions: Iterable[Interaction], *, wanted: bool) -> list[Interaction]:
    """Those whose picture was wanted but did not fit into the answer."""
    return [i for i in interactions if wanted and i.image is not None and i.image_encoding is None]


def _note(pending: int, unindexed: int = 0) -> str:
    notes = []
    if pending:
        notes.append(f"{pending} of this client's own publishes are still on their way and may be missing here.")
    if unindexed:
        notes.append(f"{unindexed} interactions were searched by their words only.")
    return " ".join(notes)


class Search:
    """One search; hits the answer had no room for are fetched afterwards."""

    def __init__(self, request: SearchInteractionsRequest | Fields | None, keywords: Fields) -> None:
        self.asked = _request_of(SearchInteractionsRequest, request, keywords)
        self.message = convert.search_message(self.asked)
        self._answer = pb.SearchInteractionsResponse()
        self._abridged: set[str] = set()
        self._fetched: dict[str, Interaction] = {}

    def read(self, answer: pb.SearchInteractionsResponse) -> None:
        self._answer = answer
        self._abridged = {hit.interaction.interaction_id for hit in answer.hits if hit.abridged}

    def next(self) -> pb.GetInteractionsRequest | None:
        """The message that fetches what is still abridged; None when nothing is."""
        if not self._abridged:
            return None
        return pb.GetInteractionsRequest(
            interaction_ids=sorted(self._abridged), page_size=_MAX_PAGE, include_images=self.message.include_images
        )

    def read_more(self, page: pb.GetInteractionsResponse) -> None:
        """Take the answer to `next()`. Ids that do not come back were erased in between."""
        found = {i.interaction_id: convert.interaction(i) for i in page.interactions}
        self._fetched |= found
        self._abridged -= found.keys()
        self._abridged -= set(page.missing_interaction_ids)
        if not found:
            self._abridged.clear()

    def response(self, pending: int) -> SearchInteractionsResponse:
        hits = [convert.search_hit(hit) for hit in self._answer.hits]
        for hit in hits:
            if hit.abridged:
                hit.interaction = self._fetched.get(hit.interaction.interaction_id, hit.interaction)
        unindexed = self._answer.unindexed_count
        return SearchInteractionsResponse(
            success=True,
            hits=[hit for hit in hits if not hit.abridged or hit.interaction.interaction_id in self._fetched],
            msg=_note(pending, unindexed),
            unindexed_count=unindexed,
            pending_count=pending,
        )


class InteractionPages:
    """The pages of a listing, up to top_k interactions, without one up to the default; None: all there are."""

    def __init__(
        self, request: GetInteractionsRequest | Fields | None, keywords: Fields, default_limit: int | None
    ) -> None:
        self.asked = _request_of(GetInteractionsRequest, request, keywords)
        self.message = convert.get_message(self.asked)
        limit = self.asked.top_k if self.asked.top_k is not None else default_limit
        self._left = None if limit is None else max(checks.count("top_k", limit), len(self.message.interaction_ids))
        self._more = True
        self._missing: list[str] = []

    def next(self) -> pb.GetInteractionsRequest | None:
        """The message for the next page; None when there is none."""
        if not self._more or self._left == 0:
            return None
        self.message.page_size = _MAX_PAGE if self._left is None else min(_MAX_PAGE, self._left)
        return self.message

    def read(self, page: pb.GetInteractionsResponse) -> list[Interaction]:
        self.message.page_token = page.next_page_token
        self._more = bool(page.next_page_token)
        self._missing += page.missing_interaction_ids
        if self._left is not None:
            self._left = max(0, self._left - len(page.interactions))
        return [convert.interaction(i) for i in page.interactions]

    def response(self, interactions: list[Interaction], pending: int) -> GetInteractionsResponse:
        return GetInteractionsResponse(
            success=True,
            interactions=interactions,
            msg=_note(pending),
            next_page_token=self.message.page_token,
            missing_interaction_ids=self._missing,
            pending_count=pending,
        )


class RequestPages:
    """The pages of a listing of requests, up to top_k, without one up to the default; None: all there are.

    A request that goes on on the next page is put together again. If its rest was erased in between, it ends where the
    next page begins with another.
    """

    def __init__(
        self, request: GetRequestsRequest | Fields | None, keywords: Fields, default_limit: int | None
    ) -> None:
        self.asked = _request_of(GetRequestsRequest, request, keywords)
        self.message = convert.get_requests_message(self.asked)
        limit = self.asked.top_k if self.asked.top_k is not None else default_limit
        self._left = None if limit is None else checks.count("top_k", limit)
        self._more = True
        self._begun: RequestWithInteractions | None = None

    def next(self) -> pb.GetRequestsRequest | None:
        """The message for the next page; None when there is none."""
        if not self._more or self._left == 0:
            return None
        self.message.page_size = _MAX_PAGE if self._left is None else min(_MAX_PAGE, self._left)
        return self.message

    def read(self, page: pb.GetRequestsResponse) -> list[RequestWithInteractions]:
        parts = [part for group in page.request_groups for part in group.requests]
        complete: list[RequestWithInteractions] = []
        if self._begun is not None and parts and parts[0].request.request_id != self._begun.request.request_id:
            complete.append(self._begun)
            self._begun = None
            if (
                self._left is not None and len(parts) >= self._left
            ):  # one too many: asked for again, from the same place
                self._left -= 1
                return complete
        self.message.page_token = page.next_page_token
        self._more = bool(page.next_page_token)
        for part in parts:
            found = convert.request_with_interactions(part)
            if self._begun is None:
                self._begun = found
            else:
                self._begun.interactions += found.interactions
            if not part.continues:
                complete.append(self._begun)
                self._begun = None
        if self._begun is not None and not self._more:  # the rest of it was erased in between
            complete.append(self._begun)
        if self._left is not None:
            self._left = max(0, self._left - len(complete))
        return complete

    def response(self, requests: list[RequestWithInteractions], pending: int) -> GetRequestsResponse:
        groups: list[RequestGroup] = []
        for request in requests:
            name = request.request.request_group
            if not (name and groups and groups[-1].request_group == name):  # a nameless one is a group of its own
                groups.append(RequestGroup(name, []))
            groups[-1].requests.append(request)
        return GetRequestsResponse(
            success=True,
            request_groups=groups,
            msg=_note(pending),
            next_page_token=self.message.page_token,
            pending_count=pending,
        )
