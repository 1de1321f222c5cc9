"""How the blocking client calls the server."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import TypeVar

import grpc

from reflexio import checks, convert, queries, rpcs, wire
from reflexio.base import AGAIN_SECONDS, OWN_PUBLISHES_SECONDS, ClientBase
from reflexio.channel import open_channel
from reflexio.errors import NotFoundError, ReflexioError
from reflexio.models import Interaction, RequestWithInteractions
from reflexio.places import Places
from reflexio.retry import Patience, is_refusal, may_pass
from reflexio.rpcs import A, Q, Rpc
from reflexio.spool import Sender, fork
from reflexio.v1 import interaction_service_pb2 as pb

T = TypeVar("T")


class BlockingCalls(ClientBase):
    """Carries messages over one channel, which opens with the first call."""

    _channel: grpc.Channel | None = None

    @cached_property
    def _places(self) -> Places:
        return Places()

    def _after_fork(self) -> None:
        super()._after_fork()
        fork.abandon(self._channel)
        self._channel = None
        vars(self).pop("_places", None)

    def _open(self) -> grpc.Channel:
        with self._lock:
            self._check_open()
            if self._channel is None:
                self._channel = open_channel(self._endpoint)
            return self._channel

    def _call(self, rpc: Rpc[Q, A], request: Q, timeout: float | None) -> A:
        """A message and its answer, repeated while the server is too busy; raises when the time is up."""
        return self._unary(rpc, request, Patience(self._seconds(timeout)), is_refusal)

    def _call_patiently(self, rpc: Rpc[Q, A], request: Q, patience: Patience) -> A:
        """As `_call`, repeated while the server is not available too."""
        return self._unary(rpc, request, patience, may_pass)

    def _unary(self, rpc: Rpc[Q, A], request: Q, patience: Patience, passes: Callable[[ReflexioError], bool]) -> A:
        metadata = self._metadata() if rpc.authorized else ()
        return self._repeat(lambda seconds: wire.unary(self._open(), rpc, request, seconds, metadata), patience, passes)

    def _repeat(self, attempt: Callable[[float], T], patience: Patience, passes: Callable[[ReflexioError], bool]) -> T:
        """What an attempt returns, one of the calls that this client has under way; `attempt` takes its deadline."""
        with self._places.one(patience.left()) as placed:
            if not placed:
                raise self._no_place(patience.seconds)
            while True:
                try:
                    with self._errors(patience.seconds), fork.call_in_progress():
                        return attempt(patience.left())
                except ReflexioError as error:
                    if not passes(error):
                        raise
                    pause = patience.pause(error)
                time.sleep(pause)

    def _stream(self, payloads: list[bytes], seconds: float) -> pb.PublishInteractionStreamResponse:
        metadata = self._metadata()
        return self._repeat(
            lambda left: wire.stream(self._open(), payloads, self._streams, left, metadata),
            Patience(seconds),
            is_refusal,
        )

    def _image(self, interaction_id: str, timeout: float | None) -> bytes:
        request = pb.GetImageRequest(interaction_id=checks.text("interaction_id", interaction_id, required=True))
        patience, metadata = Patience(self._seconds(timeout)), self._metadata()

        def receive(seconds: float) -> bytes:
            stream: grpc.UnaryStreamMultiCallable[pb.GetImageRequest, pb.GetImageResponse]
            stream = self._open().unary_stream(
                rpcs.GET_IMAGE.path, rpcs.GET_IMAGE.request.SerializeToString, rpcs.GET_IMAGE.answer.FromString
            )
            return b"".join(part.data for part in stream(request, timeout=seconds, metadata=metadata))

        return self._repeat(receive, patience, is_refusal)

    def _await_own(self, user_id: str | None) -> int:
        sender = self._own_sender()
        return 0 if sender is None or sender.is_here() else sender.spool.wait_for_user(user_id, OWN_PUBLISHES_SECONDS)

    def _go_behind(self, user_id: str | None, seconds: float, undone: str, *, deletes_only: bool = False) -> None:
        """Wait for this client's earlier requests of a user or of all; raises when they take longer."""
        sender = self._sender_before(deletes_only=deletes_only)
        if sender is None:
            return
        if deletes_only:
            left = sender.spool.wait_for_user(user_id, seconds)
        else:
            left = self._await_all(sender, user_id, time.monotonic() + seconds)
        if left:
            raise self._held_up(sender, left, seconds, undone)

    def _await_all(self, sender: Sender, user_id: str | None, end: float) -> int:
        """Wait until `end` for what is pending and what ended processes left; returns how much is still there."""
        left = sender.spool.wait_for_user(user_id, end - time.monotonic())
        while not left and (left := self._left_by_ended(sender, user_id)) and time.monotonic() < end:
            time.sleep(AGAIN_SECONDS)
            whose = None if sender.spool.unread else user_id
            left = sender.spool.wait_for_user(whose, end - time.monotonic())
        return left

    def _pages(self, pages: queries.InteractionPages, timeout: float | None) -> Iterator[list[Interaction]]:
        while (message := pages.next()) is not None:
            page = pages.read(self._call(rpcs.GET, message, timeout))
            self._add_pictures(page, pages.message.include_images, timeout)
            yield page

    def _request_pages(
        self, pages: queries.RequestPages, timeout: float | None
    ) -> Iterator[list[RequestWithInteractions]]:
        while (message := pages.next()) is not None:
            page = pages.read(self._call(rpcs.GET_REQUESTS, message, timeout))
            self._add_pictures((i for r in page for i in r.interactions), pages.message.include_images, timeout)
            yield page

    def _add_pictures(self, interactions: Iterable[Interaction], wanted: bool, timeout: float | None) -> None:
        for interaction in queries.without_picture(interactions, wanted=wanted):
            with suppress(NotFoundError):  # erased in between
                data = self._image(interaction.interaction_id, timeout)
                interaction.image_encoding = convert.image_encoding(data)

    def _disconnect(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            with fork.call_in_progress():
                channel.close()
