"""The reads of the blocking client."""

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

from reflexio import queries, rpcs
from reflexio.calls import BlockingCalls
from reflexio.models import (
    GetInteractionsResponse,
    GetRequestsResponse,
    Interaction,
    RequestWithInteractions,
    SearchInteractionsResponse,
)
from reflexio.requests import (
    GetFields,
    GetInteractionsRequest,
    GetRequestsFields,
    GetRequestsRequest,
    SearchFields,
    SearchInteractionsRequest,
)


class Reads(BlockingCalls):
    """What `ReflexioClient` reads."""

    def search_interactions(
        self,
        request: SearchInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SearchFields],
    ) -> SearchInteractionsResponse:
        """Find interactions by meaning and by words, best first; without a query the newest first.

        It first waits at most 2 seconds for this client's own publishes that are still on their way.

        Args:
            request: a `SearchInteractionsRequest` or a dict of its fields; or give the fields as keywords:
                user_id, query, top_k=10, min_score, request_id, request_group, sources, roles, user_actions,
                agent_version, start_time, end_time, most_recent_k, include_images.
            timeout: seconds.
            **keywords: see request.
        """
        asked = queries.request_of(SearchInteractionsRequest, request, keywords)
        search = queries.Search(asked)
        pending = self._await_own(asked.user_id)
        search.read(self._call(rpcs.SEARCH, search.message, timeout))
        while (message := search.next()) is not None:
            search.read_more(self._call(rpcs.GET, message, timeout))
        response = search.response(pending)
        self._add_pictures(response.interactions, asked.include_images, timeout)
        return response

    def get_interactions(
        self,
        request: GetInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetFields],
    ) -> GetInteractionsResponse:
        """Read interactions in the order of time.

        It first waits at most 2 seconds for this client's own publishes that are still on their way.

        Args:
            request: a `GetInteractionsRequest` or a dict of its fields; or give the fields as keywords:
                user_id, top_k=30, order="newest", interaction_ids, page_token, request_id, request_group, sources,
                roles, user_actions, agent_version, start_time, end_time, most_recent_k, include_images.
            timeout: seconds for each page.
            **keywords: see request.
        """
        asked = queries.request_of(GetInteractionsRequest, request, keywords)
        pages = queries.InteractionPages(asked, default_limit=30)
        pending = self._await_own(asked.user_id)
        found = [i for page in self._pages(pages, timeout) for i in page]
        return pages.response(found, pending)

    def iter_interactions(
        self,
        request: GetInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetFields],
    ) -> Iterator[Interaction]:
        """Iterate as `get_interactions` reads, but over everything unless top_k is given, one page in memory."""
        asked = queries.request_of(GetInteractionsRequest, request, keywords)
        pages = queries.InteractionPages(asked, default_limit=None)
        self._await_own(asked.user_id)
        return (i for page in self._pages(pages, timeout) for i in page)

    def get_requests(
        self,
        request: GetRequestsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetRequestsFields],
    ) -> GetRequestsResponse:
        """Read a user's requests by thread, with their interactions: those of a thread together, the newest first.

        It first waits at most 2 seconds for this client's own publishes that are still on their way.

        Args:
            request: a `GetRequestsRequest` or a dict of its fields; or give the fields as keywords: user_id (needed),
                request_id, request_group, start_time, end_time, top_k=30, order="newest", page_token, include_images.
            timeout: seconds for each page.
            **keywords: see request.
        """
        asked = queries.request_of(GetRequestsRequest, request, keywords)
        pages = queries.RequestPages(asked, default_limit=30)
        pending = self._await_own(asked.user_id)
        found = [r for page in self._request_pages(pages, timeout) for r in page]
        return pages.response(found, pending)

    def iter_requests(
        self,
        request: GetRequestsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetRequestsFields],
    ) -> Iterator[RequestWithInteractions]:
        """Iterate as `get_requests` reads, but over everything unless top_k is given, one page in memory.

        Requests of a thread come one after another; `request.request_group` names it.
        """
        asked = queries.request_of(GetRequestsRequest, request, keywords)
        pages = queries.RequestPages(asked, default_limit=None)
        self._await_own(asked.user_id)
        return (r for page in self._request_pages(pages, timeout) for r in page)

    def get_image(self, interaction_id: str, *, timeout: float | None = None) -> bytes:
        """The bytes of an interaction's picture, of any size. Raises NotFoundError."""
        return self._image(interaction_id, timeout)
