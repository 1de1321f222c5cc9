"""The blocking client."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from types import TracebackType
from typing import Literal, Self, overload

from reflexio import checks, convert, greenlets, rpcs
from reflexio.base import CLOSE_SECONDS, Interactions
from reflexio.bulk import Bulk, Item
from reflexio.client_deletes import Deletes
from reflexio.client_reads import Reads
from reflexio.errors import ReflexioError
from reflexio.models import ApiKey, Identity, Token
from reflexio.outcomes import BulkProgress, BulkResult, ClientStats, FlushResult, PublishUserInteractionResponse
from reflexio.progress import progress_bar
from reflexio.receipt import PublishReceipt
from reflexio.retry import Patience
from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_service_pb2 as pb


class ReflexioClient(Reads, Deletes):
    """Stores interactions at a Reflexio server and finds them again. Safe for use by several threads.

    Every method raises children of `ReflexioError`: `InvalidArgumentError` for what it is given,
    `AuthenticationError` without a valid key, `UnavailableError` and `DeadlineExceededError` when the server
    cannot be reached or is too slow. Reads are repeated for a few seconds while the server is not available.
    Publishing and the account are here, reads in client_reads.py, deletes in client_deletes.py.

    Args:
        api_key: from `login()`; default: the environment's REFLEXIO_API_KEY.
        url_endpoint: http://host:port/ (plaintext) or https://host:port/ (TLS); default: the environment's
            REFLEXIO_API_URL, else http://127.0.0.1:8081/.
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

    @overload
    def publish_interaction(
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
    ) -> PublishReceipt: ...

    @overload
    def publish_interaction(
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
    ) -> PublishReceipt | PublishUserInteractionResponse: ...

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
