"""The awaitable client. What its methods mean, take and raise is said once, in the blocking client."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from reflexio import checks, convert, deletes, greenlets, queries, rpcs
from reflexio.aio_calls import AwaitedCalls
from reflexio.base import CLOSE_SECONDS, Interactions
from reflexio.bulk import Bulk, Item
from reflexio.errors import ReflexioError
from reflexio.models import (
    ApiKey,
    GetInteractionsResponse,
    GetRequestsResponse,
    Identity,
    Interaction,
    RequestWithInteractions,
    SearchInteractionsResponse,
    Token,
)
from reflexio.outcomes import (
    BulkProgress,
    BulkResult,
    ClientStats,
    DeleteResponse,
    FlushResult,
    PublishUserInteractionResponse,
)
from reflexio.progress import progress_bar
from reflexio.receipt import AsyncDeleteReceipt, AsyncPublishReceipt
from reflexio.requests import (
    GetFields,
    GetInteractionsRequest,
    GetRequestsFields,
    GetRequestsRequest,
    SearchFields,
    SearchInteractionsRequest,
)
from reflexio.retry import Patience
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb


class AsyncReflexioClient(AwaitedCalls):
    """`ReflexioClient` with awaitable methods of the same names; arguments as there.

    It can be made outside an event loop. Publishing without waiting uses a thread, so that what was published is
    delivered even when the event loop has ended.
    """

    _awaited = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # The account.

    async def login(self, email: str, password: str, *, timeout: float | None = None) -> Token:
        """As `ReflexioClient.login`."""
        request = self._login_message(email, password)
        return self._take_token(await self._call(rpcs.LOGIN, request, timeout))

    async def who_am_i(self, *, timeout: float | None = None) -> Identity:
        """As `ReflexioClient.who_am_i`."""
        return convert.identity(await self._call(rpcs.WHO_AM_I, auth_pb.WhoAmIRequest(), timeout))

    async def list_api_keys(self, *, timeout: float | None = None) -> list[ApiKey]:
        """As `ReflexioClient.list_api_keys`."""
        keys: list[ApiKey] = []
        request = auth_pb.ListApiKeysRequest(page_size=1000)
        while True:
            page = await self._call(rpcs.LIST_API_KEYS, request, timeout)
            keys += map(convert.api_key, page.api_keys)
            if not page.next_page_token:
                return keys
            request.page_token = page.next_page_token

    async def revoke_api_key(self, key_id: str, *, timeout: float | None = None) -> ApiKey:
        """As `ReflexioClient.revoke_api_key`."""
        request = auth_pb.RevokeApiKeyRequest(key_id=checks.text("key_id", key_id, required=True))
        answer = await self._call(rpcs.REVOKE_API_KEY, request, timeout)
        return convert.api_key(answer.api_key)

    # Publishing.

    # fmt: off
    @overload
    async def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, wait_for_response: Literal[False] = False, *, request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncPublishReceipt: ...
    @overload
    async def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, *, wait_for_response: Literal[True], request_id: str | None = None,
        timeout: float | None = None,
    ) -> PublishUserInteractionResponse: ...
    @overload
    async def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, wait_for_response: bool = False, *, request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncPublishReceipt | PublishUserInteractionResponse: ...
    # fmt: on

    async def publish_interaction(
        self,
        user_id: str,
        interactions: Interactions,
        source: str = "",
        agent_version: str = "",
        request_group: str | None = None,
        wait_for_response: bool = False,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncPublishReceipt | PublishUserInteractionResponse:
        """As `ReflexioClient.publish_interaction`."""
        message = self._publish_message(user_id, interactions, source, agent_version, request_group, request_id)
        if not wait_for_response:
            receipt = AsyncPublishReceipt(message.request_id)
            await self._aside(self._append, message, receipt)
            return receipt
        message.wait_until = pb.WAIT_UNTIL_SEARCHABLE
        seconds = self._seconds(timeout)
        patience = Patience(seconds)
        await self._go_behind(user_id, seconds, "published", deletes_only=True)
        return convert.published(await self._call_patiently(rpcs.PUBLISH, message, patience))

    async def publish_many(
        self,
        requests: Iterable[Item] | AsyncIterable[Item],
        on_progress: Callable[[BulkProgress], None] | None = None,
        progress: bool = False,
        *,
        timeout: float | None = None,
        rejections_file: str | os.PathLike[str] | None = None,
    ) -> BulkResult:
        """As `ReflexioClient.publish_many`, also from an async iterable."""
        self._metadata()  # without a key nothing is read from the iterable
        seconds = self._seconds(timeout)
        await self._go_behind(None, seconds, "published", deletes_only=True)
        bulk = Bulk(seconds, rejections_file)
        with closing(bulk), progress_bar(requests, shown=progress) as show:
            async for _ in bulk.segments_async(requests):
                while payloads := bulk.payloads():
                    try:
                        wait = bulk.read(await self._stream(payloads, bulk.seconds_left()))
                    except ReflexioError as error:
                        wait = bulk.failed(error)
                    await asyncio.sleep(wait)
                show(bulk.progress())
                if on_progress is not None:
                    on_progress(bulk.progress())
        return bulk.result()

    async def flush(self, timeout: float | None = 30.0) -> FlushResult:
        """As `ReflexioClient.flush`."""
        self._check_elsewhere()
        end = time.monotonic() + checks.wait("timeout", timeout)
        left: list[int] = []
        for sender in self._all_senders():
            await self._aside(sender.adopt)
            left.append(await self._await_all(sender, None, end))
        return await self._aside(self._flush_result, left)

    async def stats(self) -> ClientStats:
        """As `ReflexioClient.stats`."""
        return await self._aside(self._all_stats)

    async def close(self, timeout: float | None = CLOSE_SECONDS) -> None:
        """As `ReflexioClient.close`."""
        end = time.monotonic() + checks.wait("timeout", timeout)
        greenlets.prepare()
        self._closed = True
        for sender in self._all_senders():
            if sender.is_here():  # in on_delivery there is nothing to wait for
                sender.close(0.0)
                continue
            await self._aside(sender.shut)
            await self._await_sender(sender, None, max(0.0, end - time.monotonic()))
            await self._aside(sender.stop)
        await self._disconnect()

    # Reads.

    async def search_interactions(
        self,
        request: SearchInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[SearchFields],
    ) -> SearchInteractionsResponse:
        """As `ReflexioClient.search_interactions`."""
        search = queries.Search(request, keywords)
        pending = await self._await_own(search.asked.user_id)
        search.read(await self._call(rpcs.SEARCH, search.message, timeout))
        while (message := search.next()) is not None:
            search.read_more(await self._call(rpcs.GET, message, timeout))
        response = search.response(pending)
        await self._add_pictures(response.interactions, search.asked.include_images, timeout)
        return response

    async def get_interactions(
        self,
        request: GetInteractionsRequest | Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **keywords: Unpack[GetFields],
    ) -> GetInteractionsResponse:
        """As `ReflexioClient.get_interactions`."""
        pages = queries.InteractionPages(request, keywords, default_limit=30)
        pending = await self._await_own(pages.asked.user_id)
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
        pages = queries.InteractionPages(request, keywords, default_limit=None)
        await self._await_own(pages.asked.user_id)
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
        pages = queries.RequestPages(request, keywords, default_limit=30)
        pending = await self._await_own(pages.asked.user_id)
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
        pages = queries.RequestPages(request, keywords, default_limit=None)
        await self._await_own(pages.asked.user_id)
        async for page in self._request_pages(pages, timeout):
            for found in page:
                yield found

    async def get_image(self, interaction_id: str, *, timeout: float | None = None) -> bytes:
        """As `ReflexioClient.get_image`."""
        return await self._image(interaction_id, timeout)

    # Deletes.

    # fmt: off
    @overload
    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: Literal[False] = False, *,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt: ...
    @overload
    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: Literal[True], *,
        timeout: float | None = None,
    ) -> DeleteResponse: ...
    @overload
    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...
    # fmt: on

    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_interaction`."""
        return await self._delete(deletes.interaction(user_id, interaction_id), wait_for_response, timeout)

    # fmt: off
    @overload
    async def delete_request(
        self, request_id: str, wait_for_response: Literal[False] = False, *, user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt: ...
    @overload
    async def delete_request(
        self, request_id: str, wait_for_response: Literal[True], *, user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteResponse: ...
    @overload
    async def delete_request(
        self, request_id: str, wait_for_response: bool, *, user_id: str | None = None, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...
    # fmt: on

    async def delete_request(
        self,
        request_id: str,
        wait_for_response: bool = False,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_request`."""
        return await self._delete(deletes.request(request_id, user_id), wait_for_response, timeout)

    # fmt: off
    @overload
    async def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: Literal[False] = False, *,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt: ...
    @overload
    async def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: Literal[True], *, timeout: float | None = None
    ) -> DeleteResponse: ...
    @overload
    async def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...
    # fmt: on

    async def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_request_group`."""
        return await self._delete(deletes.request_group(request_group, user_id), wait_for_response, timeout)

    # fmt: off
    @overload
    async def delete_user(
        self, user_id: str, wait_for_response: Literal[False] = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt: ...
    @overload
    async def delete_user(
        self, user_id: str, wait_for_response: Literal[True], *, timeout: float | None = None
    ) -> DeleteResponse: ...
    @overload
    async def delete_user(
        self, user_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...
    # fmt: on

    async def delete_user(
        self, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_user`."""
        return await self._delete(deletes.user(user_id), wait_for_response, timeout)

    async def _delete(
        self, delete: deletes.Delete, wait: bool, timeout: float | None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        self._check_open()
        self._account()
        if not checks.flag("wait_for_response", wait):
            receipt = AsyncDeleteReceipt(delete.new_id())
            await self._aside(self._append_delete, delete, receipt)
            return receipt
        seconds = self._seconds(timeout)
        patience = Patience(seconds)
        await self._go_behind(delete.user_id or None, seconds, "deleted")
        return deletes.response(await self._call_patiently(deletes.RPCS[delete.method], delete.message, patience))
