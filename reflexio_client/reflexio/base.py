"""What both clients share: address, API key, spool and the making of publish messages. No calls."""

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Never

import grpc
import grpc.aio

from reflexio import checks, convert, greenlets
from reflexio.channel import DEFAULT_URL, parse_url
from reflexio.deletes import Delete
from reflexio.errors import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidArgumentError,
    ReflexioError,
)
from reflexio.ids import account_tag
from reflexio.models import Publishable, Token
from reflexio.outcomes import ClientStats, Delivery, FlushResult, PublishRequest
from reflexio.places import MOST_CALLS
from reflexio.receipt import Receipt
from reflexio.security import Tls, insecure_allowed, refuse_clear_text
from reflexio.spool import MAX_BYTES, MAX_ITEMS, Sender, SpoolSettings, fork
from reflexio.spool.folder import Durability, default_folder, has_orphans
from reflexio.spool.moved import say_what_waits_elsewhere
from reflexio.status import error_from_rpc
from reflexio.streams import Streams
from reflexio.v1 import auth_service_pb2
from reflexio.v1 import interaction_service_pb2 as pb

OWN_PUBLISHES_SECONDS = 2.0  # how long a read waits for this client's own earlier publishes
AGAIN_SECONDS = 0.02  # between two looks at what ended processes left
CLOSE_SECONDS = 5.0
Interactions = Sequence[Publishable]


class ClientBase:
    """State of a client; see `ReflexioClient` for the arguments."""

    _awaited = False

    def __init__(
        self,
        api_key: str = "",
        url_endpoint: str = "",
        timeout: float = 30.0,
        *,
        root_certificates: bytes | None = None,
        client_certificate: bytes | None = None,
        client_key: bytes | None = None,
        allow_insecure: bool = False,
        max_pending: int = MAX_ITEMS,
        max_pending_bytes: int = MAX_BYTES,
        spool_dir: str | os.PathLike[str] | None = None,
        durability: Durability = "process",
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> None:
        greenlets.check(awaited=self._awaited)
        try:
            self._timeout = checks.seconds("timeout", timeout)
            bounds = checks.count("max_pending", max_pending), checks.count("max_pending_bytes", max_pending_bytes)
            if durability not in ("process", "power"):
                checks.refuse("durability", f"must be 'process' or 'power', not {durability!r}")
            if on_delivery is not None and not callable(on_delivery):
                checks.refuse("on_delivery", "must be a function")
            key = checks.text("api_key", api_key or os.environ.get("REFLEXIO_API_KEY"))
            url = checks.text("url_endpoint", url_endpoint or os.environ.get("REFLEXIO_API_URL"))
            folder = checks.folder("spool_dir", spool_dir) if spool_dir else default_folder()
        except InvalidArgumentError as error:
            raise ConfigurationError(str(error)) from None
        self._endpoint = parse_url(url or DEFAULT_URL, Tls(root_certificates, client_certificate, client_key))
        self._guarded = not (self._endpoint.secure or self._endpoint.loopback or insecure_allowed(allow_insecure))
        self._api_key = self._may_send(key.strip())
        self._tag = account_tag(self._api_key)
        self._spool_settings = SpoolSettings(folder, self._endpoint.url, "", durability, *bounds)
        self._on_delivery = on_delivery
        self._streams = Streams()
        self._lock = threading.RLock()
        self._closed = False
        # One spool an account: what was published under one account's key must never go out under another's.
        self._senders: dict[str, Sender] = {}
        weakref.finalize(self, _retire, self._senders).atexit = False
        fork.restart_after_fork(self)
        self._deliver_orphans()

    def __repr__(self) -> str:
        key = "set" if self._api_key else "not set"
        return f"<{type(self).__name__} {self._endpoint.url} api_key {key}>"

    def __reduce_ex__(self, _: object) -> Never:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled, as its connection, its thread and its spool belong "
            "to one process: share the client among threads, and in another process make one with the same settings "
            "(url_endpoint, api_key and so on)"
        )

    @property
    def api_key(self) -> str:
        """The API key in use; empty when there is none. Setting it takes effect at the next call.

        Setting raises ConfigurationError where it would be sent in clear text.
        """
        return self._api_key

    @api_key.setter
    def api_key(self, api_key: str) -> None:
        with self._lock:
            self._api_key = self._may_send(api_key.strip())
            self._tag = account_tag(self._api_key)
            sender = self._own_sender()
        if sender is not None:
            sender.set_key(self._api_key)
        else:
            self._deliver_orphans()

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        self._senders.clear()  # what they held is the parent's

    def _may_send(self, secret: str, called: str = "the API key") -> str:
        """A secret that may be sent to the server; raises ConfigurationError when others could read it."""
        if secret and self._guarded:
            refuse_clear_text(called, self._endpoint.url)
        return secret

    def _account(self) -> str:
        """The tag of the account the key belongs to; raises when there is no usable key."""
        if not self._api_key:
            raise AuthenticationError(
                "there is no API key: call login(), give api_key or set REFLEXIO_API_KEY", reason="UNAUTHENTICATED"
            )
        tag = self._tag
        if tag is None:
            raise AuthenticationError("the API key is malformed: cut off or mistyped?", reason="UNAUTHENTICATED")
        return tag

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        self._account()
        return (("authorization", f"Bearer {self._api_key}"),)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else checks.seconds("timeout", timeout)

    def _check_open(self) -> None:
        fork.check_usable()
        if self._closed:
            raise ClosedError("the client is closed")

    @contextmanager
    def _errors(self, seconds: float) -> Iterator[None]:
        """Whatever grpc raises comes out as a ReflexioError."""
        try:
            yield
        except grpc.RpcError as error:
            self._check_open()
            raise error_from_rpc(error, self._endpoint.url, seconds) from None
        except (ValueError, grpc.aio.UsageError):  # what a closed channel raises
            self._check_open()
            raise

    def _no_place(self, seconds: float) -> DeadlineExceededError:
        """No call of this client ended in time for another one to begin."""
        return DeadlineExceededError(
            f"nothing was sent to {self._endpoint.url}: {MOST_CALLS} calls of this client were under way for "
            f"{seconds:.3g} s, as many as fit; make fewer at once, or give more time",
            code="DEADLINE_EXCEEDED",
        )

    def _login_message(self, email: str, password: str) -> auth_service_pb2.LoginRequest:
        return auth_service_pb2.LoginRequest(
            email=checks.text("email", email, required=True),
            password=self._may_send(checks.text("password", password, required=True), "the password"),
        )

    def _take_token(self, answer: auth_service_pb2.LoginResponse) -> Token:
        self.api_key = answer.api_key
        return Token(api_key=answer.api_key, key_id=answer.key_id)

    def _publish_message(
        self,
        user_id: str,
        interactions: Interactions,
        source: str,
        agent_version: str,
        request_group: str | None,
        request_id: str | None,
    ) -> pb.PublishInteractionsRequest:
        self._check_open()
        self._account()
        request = PublishRequest(user_id, interactions, request_group, source, agent_version, request_id)
        return convert.publish_message(request)

    def _append(self, message: pb.PublishInteractionsRequest, receipt: Receipt[Any]) -> None:
        payload = pb.PublishInteractionStreamRequest(request=message).SerializeToString()
        self._sender_of(self._account()).append(receipt, message.user_id, payload)

    def _append_delete(self, delete: Delete, receipt: Receipt[Any]) -> None:
        payload = delete.message.SerializeToString()
        self._sender_of(self._account()).append(receipt, delete.user_id, payload, delete.method)

    def _sender_before(self, *, deletes_only: bool) -> Sender | None:
        """Who still delivers what a call must not overtake: anything, or if there are deletes among it.

        Raises ReflexioError in on_delivery, where the call would wait for itself.
        """
        if not deletes_only and self._own_sender() is None:
            self._deliver_orphans()
        sender = self._own_sender()
        if sender is not None:
            sender.check_elsewhere()
        return sender if sender is not None and (not deletes_only or sender.spool.has_deletes) else None

    def _held_up(self, sender: Sender, pending: int, seconds: float, undone: str) -> ReflexioError:
        """Why nothing was deleted or published: it would have overtaken this client's earlier requests."""
        self._check_open()  # closing ends the waiting too
        error = sender.stats().last_error
        text = f"nothing was {undone}, for {pending:,} earlier requests of this client are still on their way"
        if sender.spool.stalled:
            return AuthenticationError(f"{text}: {error}", reason="UNAUTHENTICATED")
        return DeadlineExceededError(f"{text} after {seconds:.3g} s{error and f': {error}'}")

    def _sender_of(self, tag: str) -> Sender:
        with self._lock:
            self._check_open()
            sender = self._senders.get(tag)
            if sender is None:
                settings = replace(self._spool_settings, tag=tag)
                # Should a signal handler publish in between, its sender is the one.
                new = Sender(self._endpoint, self._api_key, settings, self._on_delivery)
                sender = self._senders.setdefault(tag, new)
            return sender

    def _deliver_orphans(self) -> None:
        """Begin with what processes that ended have left for this account at this server."""
        tag = self._tag
        if tag is None or not fork.usable():
            return
        settings = replace(self._spool_settings, tag=tag)
        say_what_waits_elsewhere(settings)
        if has_orphans(settings):
            self._sender_of(tag).adopt()

    def _deliver_for(self, address: str) -> None:
        """For the command: deliver here what waits for another address, which this server had before."""
        settings = replace(self._spool_settings, tag=self._account(), address=address)
        with self._lock:
            self._check_open()
            self._senders[f"{settings.tag} {address}"] = Sender(self._endpoint, self._api_key, settings)

    @property
    def _is_refused(self) -> bool:
        """For the command: nothing can be delivered, as the server refuses the key."""
        return any(sender.spool.stalled for sender in self._all_senders())

    @staticmethod
    def _left_by_ended(sender: Sender, user_id: str | None = None) -> int:
        """Take over more of what ended processes left, some files at a time; how much of it is on its way.

        Asked after, not during: the thread that delivers takes over as well, and what it took is no less on its way.
        """
        sender.adopt()
        return sender.spool.left_by_ended(user_id)

    def _own_sender(self) -> Sender | None:
        return self._senders.get(self._tag or "")

    def _all_senders(self) -> list[Sender]:
        with self._lock:
            return list(self._senders.values())

    def _flush_result(self, left: Sequence[int]) -> FlushResult:
        senders = self._all_senders()
        errors = [stats.last_error for stats in (s.stats() for s in senders) if stats.last_error]
        pending = sum(max(0, one) for one in left) + sum(sender.spool.lost for sender in senders)
        return FlushResult(pending, errors[0] if errors and pending else "")

    def _check_elsewhere(self) -> None:
        for sender in self._all_senders():
            sender.check_elsewhere()

    def _all_stats(self) -> ClientStats:
        total = ClientStats()
        for stats in (sender.stats() for sender in self._all_senders()):
            total.pending += stats.pending
            total.pending_bytes += stats.pending_bytes
            total.delivered += stats.delivered
            total.rejected += stats.rejected
            total.rejections += stats.rejections
            total.last_error = total.last_error or stats.last_error
            total.adopted += stats.adopted
            total.dead += stats.dead
            total.spool_path = total.spool_path or stats.spool_path
            total.durable = total.durable and stats.durable
        return total


def _retire(senders: dict[str, Sender]) -> None:
    for sender in senders.values():
        sender.retire()
