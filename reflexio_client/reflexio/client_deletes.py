"""The deletes of the blocking client."""

from typing import Literal, overload

from reflexio import checks, deletes
from reflexio.calls import BlockingCalls
from reflexio.deletes import Delete
from reflexio.outcomes import DeleteResponse
from reflexio.receipt import DeleteReceipt
from reflexio.retry import Patience


class Deletes(BlockingCalls):
    """What `ReflexioClient` deletes.

    A delete erases what was stored before it, and what this client published before it: that is delivered first, and
    what it publishes afterwards stays. What other processes publish and deliver later stays too.

    Not waiting, a delete is on disk in the spool when the method returns, behind this client's earlier publishes. A
    thread delivers it, through outages too, and when this process ends before that, the next start does. It may raise
    QueueFullError and SpoolError, as a publish.

    Waiting, the method first waits for this client's earlier publishes of the user, or without a user_id for all of
    them. When they do not arrive within the timeout, nothing is deleted and the DeadlineExceededError says so. The call
    is repeated while the server is not available; the counts are those of the attempt that was answered.
    """

    @overload
    def delete_interaction(
        self,
        user_id: str | None,
        interaction_id: str,
        wait_for_response: Literal[False] = False,
        *,
        timeout: float | None = None,
    ) -> DeleteReceipt: ...

    @overload
    def delete_interaction(
        self,
        user_id: str | None,
        interaction_id: str,
        wait_for_response: Literal[True],
        *,
        timeout: float | None = None,
    ) -> DeleteResponse: ...

    @overload
    def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...

    def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse:
        """Delete one interaction.

        Its request stays, and publishing that again does not bring the interaction back. A request goes with its last
        interaction.

        Args:
            user_id: whose it must be; None: anybody's in the account.
            interaction_id: the interaction.
            wait_for_response: False: return as soon as it is on disk; it is delivered as publishes are, in its place
                among them. True: return when it is gone.
            timeout: seconds, when waiting.

        Returns:
            A `DeleteReceipt`, or when waiting a `DeleteResponse`.

        Raises:
            NotFoundError: waiting, and it is not there, perhaps because an attempt of this very call, whose answer
                was lost, has deleted it.
        """
        return self._delete(deletes.interaction(user_id, interaction_id), wait_for_response, timeout)

    @overload
    def delete_request(
        self,
        request_id: str,
        wait_for_response: Literal[False] = False,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteReceipt: ...

    @overload
    def delete_request(
        self,
        request_id: str,
        wait_for_response: Literal[True],
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteResponse: ...

    @overload
    def delete_request(
        self, request_id: str, wait_for_response: bool, *, user_id: str | None = None, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...

    def delete_request(
        self,
        request_id: str,
        wait_for_response: bool = False,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteReceipt | DeleteResponse:
        """Delete a request with all its interactions.

        Its request_id stays taken: publishing it again raises `RequestErasedError`.

        Args:
            request_id: the request.
            wait_for_response: False: return as soon as it is on disk; it is delivered as publishes are, in its place
                among them. True: return when it is gone.
            user_id: whose it must be; None: anybody's in the account.
            timeout: seconds, when waiting.

        Returns:
            A `DeleteReceipt`, or when waiting a `DeleteResponse`.

        Raises:
            NotFoundError: waiting, and it is not there, perhaps because an attempt of this very call, whose answer
                was lost, has deleted it.
        """
        return self._delete(deletes.request(request_id, user_id), wait_for_response, timeout)

    @overload
    def delete_request_group(
        self,
        request_group: str,
        user_id: str,
        wait_for_response: Literal[False] = False,
        *,
        timeout: float | None = None,
    ) -> DeleteReceipt: ...

    @overload
    def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: Literal[True], *, timeout: float | None = None
    ) -> DeleteResponse: ...

    @overload
    def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...

    def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse:
        """Delete every request of a user's thread.

        Args:
            request_group: the thread.
            user_id: whose thread.
            wait_for_response: False: return as soon as it is on disk; it is delivered as publishes are, in its place
                among them. True: return when it is gone.
            timeout: seconds, when waiting. Much is deleted step by step: when the time is up, a part may be gone, and
                another call goes on from there.

        Returns:
            A `DeleteReceipt`, or when waiting a `DeleteResponse`.

        Raises:
            NotFoundError: as in `delete_request`.
        """
        return self._delete(deletes.request_group(request_group, user_id), wait_for_response, timeout)

    @overload
    def delete_user(
        self, user_id: str, wait_for_response: Literal[False] = False, *, timeout: float | None = None
    ) -> DeleteReceipt: ...

    @overload
    def delete_user(
        self, user_id: str, wait_for_response: Literal[True], *, timeout: float | None = None
    ) -> DeleteResponse: ...

    @overload
    def delete_user(
        self, user_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...

    def delete_user(
        self, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse:
        """Delete everything of a user, and the user.

        Args:
            user_id: whose.
            wait_for_response: False: return as soon as it is on disk; it is delivered as publishes are, in its place
                among them. True: return when it is gone.
            timeout: seconds, when waiting, as in `delete_request_group`.

        Returns:
            A `DeleteReceipt`, or when waiting a `DeleteResponse`.

        Raises:
            NotFoundError: as in `delete_request`.
        """
        return self._delete(deletes.user(user_id), wait_for_response, timeout)

    def _delete(self, delete: Delete, wait: bool, timeout: float | None) -> DeleteReceipt | DeleteResponse:
        self._check_open()
        self._account()
        if not checks.flag("wait_for_response", wait):
            receipt = DeleteReceipt(delete.new_id())
            self._append_delete(delete, receipt)
            return receipt
        seconds = self._seconds(timeout)
        patience = Patience(seconds)
        self._go_behind(delete.user_id or None, seconds, "deleted")
        return deletes.response(self._call_patiently(deletes.RPCS[delete.method], delete.message, patience))
