"""The blocking client."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from reflexio import checks, convert, deletes, greenlets, queries, rpcs
from reflexio.base import CLOSE_SECONDS, Interactions
from reflexio.bulk import Bulk, Item
from reflexio.calls import BlockingCalls
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
from reflexio.receipt import DeleteReceipt, PublishReceipt
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


class ReflexioClient(BlockingCalls):
    """Stores interactions at a Reflexio server and finds them again. Safe for use by several threads.

    Every method raises children of `ReflexioError`: `InvalidArgumentError` for what it is given,
    `AuthenticationError` without a valid key, `UnavailableError` and `DeadlineExceededError` when the server
    cannot be reached or is too slow. Reads are repeated for a few seconds while the server is not available.

    A delete erases what was stored before it, and what this client published before it: that is delivered first, and
    what it publishes afterwards stays. What other processes publish and deliver later stays too.

    Args:
        api_key: from `login()`; default: the environment's REFLEXIO_API_KEY.
        url_endpoint: http://host:port/ (plaintext) or https://host:port/ (TLS); default: the environment's
            REFLEXIO_API_URL, else http://127.0.0.1:8081/. Servers that share a store take turns: a name with several
            addresses in DNS, or http://10.0.0.1:8081,10.0.0.2:8081/.
        timeout: seconds each call to the server may take, unless a method is given another.
        root_certificates: PEM of the authorities to trust with https; default: the file that the environment's
            REFLEXIO_CA_CERT names, else the operating system's (SSL_CERT_FILE names others).
        client_certificate: PEM of the certificate to show to a server that asks for one, with its chain; default: the
            file that REFLEXIO_CLIENT_CERT names.
        client_key: PEM of the key of client_certificate, without a passphrase; default: the file that
            REFLEXIO_CLIENT_KEY names.
        allow_insecure: send the API key and passwords in clear text to other machines too, over a network that nobody
            else can read; default: the environment's REFLEXIO_ALLOW_INSECURE is 1. Loopback is always allowed.
        max_pending: how many requests may wait in the spool, those taken over from ended processes included.
        max_pending_bytes: how large they may be together.
        spool_dir: folder of the spool files; default: the environment's REFLEXIO_SPOOL_DIR, else the platform's
            folder for the state of programs, on Linux ~/.local/state/reflexio/spool.
        durability: "process": a publish or delete that has returned survives the end of this process, however it comes.
            "power": the end of the power too, at the price of waiting for the disk at each publish.
        on_delivery: called with a `Delivery` when the server has carried out or refused a publish or a delete that
            was not waited for, from the thread that delivers: it should be quick. What it raises is logged and in
            `stats().last_error`. It may close the client; waiting for a delivery in it raises ReflexioError.

    Raises:
        ConfigurationError: an argument cannot work, or the API key would go to another machine in clear text.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # The account.

    def login(self, email: str, password: str, *, timeout: float | None = None) -> Token:
        """Trade a password for a new API key, which this client uses from now on.

        Raises ConfigurationError, and sends nothing, when the password would go to another machine in clear text.
        """
        request = self._login_message(email, password)
        return self._take_token(self._call(rpcs.LOGIN, request, timeout))

    def who_am_i(self, *, timeout: float | None = None) -> Identity:
        """Tell the account and the key this client calls with."""
        return convert.identity(self._call(rpcs.WHO_AM_I, auth_pb.WhoAmIRequest(), timeout))

    def list_api_keys(self, *, timeout: float | None = None) -> list[ApiKey]:
        """All keys of the account, newest first, revoked ones included, without their secrets."""
        keys: list[ApiKey] = []
        request = auth_pb.ListApiKeysRequest(page_size=1000)
        while True:
            page = self._call(rpcs.LIST_API_KEYS, request, timeout)
            keys += map(convert.api_key, page.api_keys)
            if not page.next_page_token:
                return keys
            request.page_token = page.next_page_token

    def revoke_api_key(self, key_id: str, *, timeout: float | None = None) -> ApiKey:
        """Revoke a key of the account; it stops working within 30 seconds. Raises NotFoundError."""
        request = auth_pb.RevokeApiKeyRequest(key_id=checks.text("key_id", key_id, required=True))
        return convert.api_key(self._call(rpcs.REVOKE_API_KEY, request, timeout).api_key)

    # Publishing.

    # fmt: off
    @overload
    def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, wait_for_response: Literal[False] = False, *, request_id: str | None = None,
        timeout: float | None = None,
    ) -> PublishReceipt: ...
    @overload
    def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, *, wait_for_response: Literal[True], request_id: str | None = None,
        timeout: float | None = None,
    ) -> PublishUserInteractionResponse: ...
    @overload
    def publish_interaction(
        self, user_id: str, interactions: Interactions, source: str = "", agent_version: str = "",
        request_group: str | None = None, wait_for_response: bool = False, *, request_id: str | None = None,
        timeout: float | None = None,
    ) -> PublishReceipt | PublishUserInteractionResponse: ...
    # fmt: on

    def publish_interaction(
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
    ) -> PublishReceipt | PublishUserInteractionResponse:
        """Publish interactions of one user that belong together, all or nothing.

        Args:
            user_id: whose interactions these are.
            interactions: in the order they happened: dicts or pydantic models with the fields of `InteractionData`,
                such objects, or an `Interaction` that was read.
            source: where they come from, such as "support_chat".
            agent_version: the version of the agent that took part.
            request_group: the thread they belong to, within the user.
            wait_for_response: False: return as soon as it is on disk; a thread of this client delivers it, through
                outages too, and when this process ends before that, the next start does. True: return when it is
                stored and found by search.
                Deletes of the user that this client has still to deliver go before it.
            request_id: your own id, unique within the account: with it the same call can be repeated safely,
                after a restart too. Then interactions without created_at get the server's time.
            timeout: seconds, when waiting; within them the call is repeated while the server is not available.

        Returns:
            A `PublishReceipt`, or when waiting a `PublishUserInteractionResponse`.

        Raises:
            QueueFullError: not waiting, and the spool is full.
            SpoolError: not waiting, and the spool cannot be written, for instance because the disk is full.
            AlreadyExistsError: waiting, and the request_id was used before for something else.
            RequestErasedError: waiting, and the request_id belongs to an erased request.
        """
        message = self._publish_message(user_id, interactions, source, agent_version, request_group, request_id)
        if not wait_for_response:
            receipt = PublishReceipt(message.request_id)
            self._append(message, receipt)
            return receipt
        message.wait_until = pb.WAIT_UNTIL_SEARCHABLE
        seconds = self._seconds(timeout)
        patience = Patience(seconds)
        self._go_behind(user_id, seconds, "published", deletes_only=True)
        return convert.published(self._call_patiently(rpcs.PUBLISH, message, patience))

    def publish_many(
        self,
        requests: Iterable[Item],
        on_progress: Callable[[BulkProgress], None] | None = None,
        progress: bool = False,
        *,
        timeout: float | None = None,
        rejections_file: str | os.PathLike[str] | None = None,
    ) -> BulkResult:
        """Publish any number of requests over streams, each request on its own: a bad one costs no other.

        Deletes that this client has still to deliver go before it, within the timeout.

        Streams take segments of at most 1,000 requests, and no more than one segment is held in memory. A segment
        is sent again after a break, with the same request_ids, so that nothing is stored twice.

        Args:
            requests: `PublishRequest` objects, or dicts or pydantic models with their fields, from any iterable.
            on_progress: called after each acknowledged segment.
            progress: show a bar on a terminal, when the extra `progress` is installed.
            timeout: seconds a segment may take, repetitions included.
            rejections_file: a file to be written with every rejection, a JSON object with the fields of `Rejection`
                a line, instead of listing them in the result. It comes into being with the first.

        Returns:
            Counts of what was stored, stored before, and rejected, and the rejections with their index: without a
            file the first 10,000 of them, and how many more there were.

        Raises:
            BulkInterruptedError: it cannot go on, or the iterable raised; the error has the result so far. What the
                iterable gave before it raised is all settled.
        """
        self._metadata()  # without a key nothing is read from the iterable
        seconds = self._seconds(timeout)
        self._go_behind(None, seconds, "published", deletes_only=True)
        bulk = Bulk(seconds, rejections_file)
        with closing(bulk), progress_bar(requests, shown=progress) as show:
            for _ in bulk.segments(requests):
                while payloads := bulk.payloads():
                    try:
                        wait = bulk.read(self._stream(payloads, bulk.seconds_left()))
                    except ReflexioError as error:
                        wait = bulk.failed(error)
                    time.sleep(wait)
                show(bulk.progress())
                if on_progress is not None:
                    on_progress(bulk.progress())
        return bulk.result()

    def flush(self, timeout: float | None = 30.0) -> FlushResult:
        """Wait at most `timeout` seconds until all publishes and deletes so far are delivered, and say what is left.

        0 only looks; None waits for as long as it takes.

        That includes what processes that have ended left behind for this account at this server.
        It ends early when nothing can be delivered because the server refuses the API key. Raises ReflexioError in
        on_delivery, where it would wait for itself.
        """
        self._check_elsewhere()
        end = time.monotonic() + checks.wait("timeout", timeout)
        left: list[int] = []
        for sender in self._all_senders():
            sender.adopt()
            left.append(self._await_all(sender, None, end))
        return self._flush_result(left)

    def stats(self) -> ClientStats:
        """The spool in numbers."""
        return self._all_stats()

    def close(self, timeout: float | None = CLOSE_SECONDS) -> None:
        """Deliver what is pending within `timeout` seconds, say on stderr what is left, and disconnect.

        0 waits for nothing; None waits for as long as it takes. Clients that are still open when the interpreter exits
        do the same then.
        """
        end = time.monotonic() + checks.wait("timeout", timeout)
        greenlets.prepare()
        self._closed = True
        for sender in self._all_senders():
            sender.close(max(0.0, end - time.monotonic()))
        self._disconnect()

    # Reads.

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
                user_id, query, top_k=10, min_score, time_zone, request_id, request_group, sources, roles, user_actions,
                agent_version, start_time, end_time, most_recent_k, include_images.
            timeout: seconds.
            **keywords: see request.
        """
        search = queries.Search(request, keywords)
        pending = self._await_own(search.asked.user_id)
        search.read(self._call(rpcs.SEARCH, search.message, timeout))
        while (message := search.next()) is not None:
            search.read_more(self._call(rpcs.GET, message, timeout))
        response = search.response(pending)
        self._add_pictures(response.interactions, search.asked.include_images, timeout)
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
        pages = queries.InteractionPages(request, keywords, default_limit=30)
        pending = self._await_own(pages.asked.user_id)
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
        pages = queries.InteractionPages(request, keywords, default_limit=None)
        self._await_own(pages.asked.user_id)
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
        pages = queries.RequestPages(request, keywords, default_limit=30)
        pending = self._await_own(pages.asked.user_id)
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
        pages = queries.RequestPages(request, keywords, default_limit=None)
        self._await_own(pages.asked.user_id)
        return (r for page in self._request_pages(pages, timeout) for r in page)

    def get_image(self, interaction_id: str, *, timeout: float | None = None) -> bytes:
        """The bytes of an interaction's picture, of any size. Raises NotFoundError."""
        return self._image(interaction_id, timeout)

    # Deletes.

    # fmt: off
    @overload
    def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: Literal[False] = False, *,
        timeout: float | None = None,
    ) -> DeleteReceipt: ...
    @overload
    def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: Literal[True], *,
        timeout: float | None = None,
    ) -> DeleteResponse: ...
    @overload
    def delete_interaction(
        self, user_id: str | None, interaction_id: str, wait_for_response: bool, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...
    # fmt: on

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
            timeout: seconds, when waiting. This client's earlier publishes of the user, or without a user_id all of
                them, are waited for first: if they do not arrive in time, nothing is deleted. The call is repeated
                while the server is not available; the counts are those of the attempt that was answered.

        Returns:
            A `DeleteReceipt`, or when waiting a `DeleteResponse`.

        Raises:
            QueueFullError, SpoolError: not waiting, as in `publish_interaction`.
            NotFoundError: waiting, and it is not there, perhaps because an attempt of this very call, whose answer
                was lost, has deleted it.
        """
        return self._delete(deletes.interaction(user_id, interaction_id), wait_for_response, timeout)

    # fmt: off
    @overload
    def delete_request(
        self, request_id: str, wait_for_response: Literal[False] = False, *, user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteReceipt: ...
    @overload
    def delete_request(
        self, request_id: str, wait_for_response: Literal[True], *, user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteResponse: ...
    @overload
    def delete_request(
        self, request_id: str, wait_for_response: bool, *, user_id: str | None = None, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse: ...
    # fmt: on

    def delete_request(
        self,
        request_id: str,
        wait_for_response: bool = False,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> DeleteReceipt | DeleteResponse:
        """Delete a request with all its interactions.

        Its request_id stays taken: publishing it again raises `RequestErasedError`. The rest as in
        `delete_interaction`.

        Args:
            request_id: the request.
            wait_for_response: return when it is gone, not as soon as it is on disk.
            user_id: whose it must be; None: anybody's in the account.
            timeout: seconds, when waiting.
        """
        return self._delete(deletes.request(request_id, user_id), wait_for_response, timeout)

    # fmt: off
    @overload
    def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: Literal[False] = False, *,
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
    # fmt: on

    def delete_request_group(
        self, request_group: str, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse:
        """Delete every request of a user's thread; the rest as in `delete_interaction`.

        Args:
            request_group: the thread.
            user_id: whose thread.
            wait_for_response: return when it is gone, not as soon as it is on disk.
            timeout: seconds, when waiting. Much is deleted step by step: when the time is up, a part may be gone, and
                another call goes on from there.
        """
        return self._delete(deletes.request_group(request_group, user_id), wait_for_response, timeout)

    # fmt: off
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
    # fmt: on

    def delete_user(
        self, user_id: str, wait_for_response: bool = False, *, timeout: float | None = None
    ) -> DeleteReceipt | DeleteResponse:
        """Delete everything of a user, and the user; the rest as in `delete_request_group`.

        Args:
            user_id: whose.
            wait_for_response: return when it is gone, not as soon as it is on disk.
            timeout: seconds, when waiting.
        """
        return self._delete(deletes.user(user_id), wait_for_response, timeout)

    def _delete(self, delete: deletes.Delete, wait: bool, timeout: float | None) -> DeleteReceipt | DeleteResponse:
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
