"""The deletes of the awaitable client."""

from typing import Literal, overload

from reflexio import checks, deletes
from reflexio.aio_calls import AwaitedCalls
from reflexio.deletes import Delete
from reflexio.outcomes import DeleteResponse
from reflexio.receipt import AsyncDeleteReceipt
from reflexio.retry import Patience


class AsyncDeletes(AwaitedCalls):
    """What `AsyncReflexioClient` deletes."""

    @overload
    async def delete_interaction(
        self,
        user_id: str | None,
        interaction_id: str,
        wait_for_response: Literal[False] = False,
        *,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt: ...

    @overload
    async def delete_interaction(
        self,
        user_id: str | None,
        interaction_id: str,
        wait_for_response: Literal[True],
        *,
        timeout: float | None = None,
    ) -> DeleteResponse: ...

    @overload
    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...

    async def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_interaction`."""
        return await self._delete(deletes.interaction(user_id, interaction_id), wait_for_response, timeout)

    @overload
    async def delete_request(
        self,
        request_id: str,
        wait_for_response: Literal[False] = False,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncDeleteReceipt: ...

    @overload
    async def delete_request(
        self,
        request_id: str,
        wait_for_response: Literal[True],
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteResponse: ...

    @overload
    async def delete_request(
        self, request_id: str, wait_for_response: bool, *, user_id: str | None = None, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse: ...

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

    @overload
    async def delete_request_group(
        self,
        request_group: str,
        user_id: str,
        wait_for_response: Literal[False] = False,
        *,
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

    async def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_request_group`."""
        return await self._delete(deletes.request_group(request_group, user_id), wait_for_response, timeout)

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

    async def delete_user(
        self, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> AsyncDeleteReceipt | DeleteResponse:
        """As `ReflexioClient.delete_user`."""
        return await self._delete(deletes.user(user_id), wait_for_response, timeout)

    async def _delete(self, delete: Delete, wait: bool, timeout: float | None) -> AsyncDeleteReceipt | DeleteResponse:
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
