"""The awaitable client. What its methods mean, take and raise is said once, in the blocking client."""

import asyncio
import os
import time
from collections.abc import AsyncIterable, Callable, Iterable
from contextlib import closing
from types import TracebackType
from typing import Literal, Self, overload

from reflexio import checks, convert, greenlets, rpcs
from reflexio.aio_deletes import AsyncDeletes
from reflexio.aio_reads import AsyncReads
from reflexio.base import CLOSE_SECONDS, Interactions
from reflexio.bulk import Bulk, Item
from reflexio.errors import ReflexioError
from reflexio.models import ApiKey, Identity, Token
from reflexio.outcomes import BulkProgress, BulkResult, ClientStats, FlushResult, PublishUserInteractionResponse
from reflexio.progress import progress_bar
from reflexio.receipt import AsyncPublishReceipt
from reflexio.retry import Patience
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb


class AsyncReflexioClient(AsyncReads, AsyncDeletes):
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

    @overload
    async def publish_interaction(
        self,
        user_id: str,
        interactions: Interactions,
        source: str = "",
        agent_version: str = "",
        request_group: str | None = None,
        wait_for_response: Literal[False] = False,
        *,
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncPublishReceipt: ...

    @overload
    async def publish_interaction(
        self,
        user_id: str,
        interactions: Interactions,
        source: str = "",
        agent_version: str = "",
        request_group: str | None = None,
        *,
        wait_for_response: Literal[True],
        request_id: str | None = None,
        timeout: float | None = None,
    ) -> PublishUserInteractionResponse: ...

    @overload
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
    ) -> AsyncPublishReceipt | PublishUserInteractionResponse: ...

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
