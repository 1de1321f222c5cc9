"""The reads of the awaitable client."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Unpack

from reflexio import queries, rpcs
from reflexio.aio_calls import AwaitedCalls
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


class AsyncReads(AwaitedCalls):
    """What `AsyncReflexioClient` reads."""

    async def search_interactions(
        self,
        request: SearchInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SearchFields],
    ) -> SearchInteractionsResponse:
        """As `ReflexioClient.search_interactions`."""
        asked = queries.request_of(SearchInteractionsRequest, request, keywords)
        search = queries.Search(asked)
        pending = await self._await_own(asked.user_id)
        search.read(await self._call(rpcs.SEARCH, search.message, timeout))
        while (message := search.next()) is not None:
            search.read_more(await self._call(rpcs.GET, message, timeout))
        response = search.response(pending)
        await self._add_pictures(response.interactions, asked.include_images, timeout)
        return response

    async def get_interactions(
        self,
        request: GetInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetFields],
    ) -> GetInteractionsResponse:
        """As `ReflexioClient.get_interactions`."""
        asked = queries.request_of(GetInteractionsRequest, request, keywords)
        pages = queries.InteractionPages(asked, default_limit=30)
        pending = await self._await_own(asked.user_id)
        found = [i async for page in self._pages(pages, timeout) for i in page]
        return pages.response(found, pending)

    async def iter_interactions(
        self,
        request: GetInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetFields],
    ) -> AsyncIterator[Interaction]:
        """As `ReflexioClient.iter_interactions`, for `async for`."""
        asked = queries.request_of(GetInteractionsRequest, request, keywords)
        pages = queries.InteractionPages(asked, default_limit=None)
        await self._await_own(asked.user_id)
        async for page in self._pages(pages, timeout):
            for interaction in page:
                yield interaction

    async def get_requests(
        self,
        request: GetRequestsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetRequestsFields],
    ) -> GetRequestsResponse:
        """As `ReflexioClient.get_requests`."""
        asked = queries.request_of(GetRequestsRequest, request, keywords)
        pages = queries.RequestPages(asked, default_limit=30)
        pending = await self._await_own(asked.user_id)
        found = [r async for page in self._request_pages(pages, timeout) for r in page]
        return pages.response(found, pending)

    async def iter_requests(
        self,
        request: GetRequestsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetRequestsFields],
    ) -> AsyncIterator[RequestWithInteractions]:
        """As `ReflexioClient.iter_requests`, for `async for`."""
        asked = queries.request_of(GetRequestsRequest, request, keywords)
        pages = queries.RequestPages(asked, default_limit=None)
        await self._await_own(asked.user_id)
        async for page in self._request_pages(pages, timeout):
            for found in page:
                yield found

    async def get_image(self, interaction_id: str, *, timeout: float | None = None) -> bytes:
        """As `ReflexioClient.get_image`."""
        return await self._image(interaction_id, timeout)
