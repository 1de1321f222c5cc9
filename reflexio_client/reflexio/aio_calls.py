"""How the awaitable client calls the server."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import grpc.aio

from reflexio import checks, convert, queries, rpcs
from reflexio.base import AGAIN_SECONDS, OWN_PUBLISHES_SECONDS, ClientBase
from reflexio.channel import open_aio_channel
from reflexio.errors import NotFoundError, ReflexioError
from reflexio.models import Interaction, RequestWithInteractions
from reflexio.places import MOST_CALLS
from reflexio.retry import Patience, is_refusal, may_pass
from reflexio.rpcs import A, Q, Rpc
from reflexio.spool import Sender, fork
from reflexio.streams import OneByOne, pack
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.wire import Metadata

T = TypeVar("T")
_THREADS = 4  # so that a look for old spools holds up no publish


class AwaitedCalls(ClientBase):
    """Carries messages over one channel, which opens with the first call in each event loop."""

    _channel: grpc.aio.Channel | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _places: asyncio.Semaphore
    _threads: ThreadPoolExecutor | None = None

    def _after_fork(self) -> None:
        super()._after_fork()
        fork.abandon((self._channel, self._loop, self._threads))
        self._channel = self._loop = self._threads = None

    async def _aside(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do on a thread what may wait for a disk or a lock, as the event loop must not."""
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="reflexio-aside")
        try:
            doing = self._threads.submit(work, *arguments)
        except RuntimeError:  # the interpreter exits, and no thread starts any more
            return work(*arguments)
        return await asyncio.shield(asyncio.wrap_future(doing))

    def _open(self) -> grpc.aio.Channel:
        with self._lock:
            self._check_open()
            loop = asyncio.get_running_loop()
            if self._channel is None or self._loop is not loop:  # a channel works in its own loop only
                fork.mark_aio_used()
                self._channel, self._loop = open_aio_channel(self._endpoint), loop
                self._places = asyncio.Semaphore(MOST_CALLS)
            return self._channel

    @contextmanager
    def _aio_errors(self, seconds: float) -> Iterator[None]:
        try:
            with self._errors(seconds):
                yield
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not task.cancelling():  # close() ended the call, nobody cancelled the task
                self._check_open()
            raise

    async def _call(self, rpc: Rpc[Q, A], request: Q, timeout: float | None) -> A:
        return await self._unary(rpc, request, Patience(self._seconds(timeout)), is_refusal)

    async def _call_patiently(self, rpc: Rpc[Q, A], request: Q, patience: Patience) -> A:
        return await self._unary(rpc, request, patience, may_pass)

    async def _unary(
        self, rpc: Rpc[Q, A], request: Q, patience: Patience, passes: Callable[[ReflexioError], bool]
    ) -> A:
        metadata = self._metadata() if rpc.authorized else ()

        async def attempt(seconds: float) -> A:
            call: grpc.aio.UnaryUnaryMultiCallable[Q, A]
            call = self._open().unary_unary(rpc.path, rpc.request.SerializeToString, rpc.answer.FromString)
            return await call(request, timeout=seconds, metadata=metadata)

        return await self._repeat(attempt, patience, passes)

    async def _repeat(
        self, attempt: Callable[[float], Awaitable[T]], patience: Patience, passes: Callable[[ReflexioError], bool]
    ) -> T:
        self._open()
        places = self._places
        try:
            await asyncio.wait_for(places.acquire(), patience.left())
        except TimeoutError:
            self._check_open()
            raise self._no_place(patience.seconds) from None
        try:
            while True:
                try:
                    with self._aio_errors(patience.seconds):
                        return await attempt(patience.left())
                except ReflexioError as error:
                    if not passes(error):
                        raise
                    pause = patience.pause(error)
                await asyncio.sleep(pause)
        finally:
            places.release()

    async def _stream(self, payloads: list[bytes], seconds: float) -> pb.PublishInteractionStreamResponse:
        metadata = self._metadata()

        async def attempt(left: float) -> pb.PublishInteractionStreamResponse:
            if not self._streams.full:
                try:
                    return await self._over_stream(payloads, left, metadata)
                except grpc.RpcError as error:
                    if not self._streams.are_full(error):
                        raise
            return await self._one_by_one(payloads, left, metadata, self._streams.full_until)

        return await self._repeat(attempt, Patience(seconds), is_refusal)

    async def _over_stream(
        self, payloads: list[bytes], seconds: float, metadata: Metadata
    ) -> pb.PublishInteractionStreamResponse:
        """As wire.py's `_stream`."""
        call: grpc.aio.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]
        call = self._open().stream_unary(rpcs.PUBLISH_STREAM.path, None, rpcs.PUBLISH_STREAM.answer.FromString)
        end, most = time.monotonic() + seconds, self._streams.per_message
        messages = pack(payloads, most)
        answer = await call(iter(messages), timeout=seconds, metadata=metadata)
        if self._streams.understood(answer, most) or len(messages) == len(payloads):
            return answer
        return await call(iter(payloads), timeout=max(0.001, end - time.monotonic()), metadata=metadata)

    async def _one_by_one(
        self, payloads: list[bytes], seconds: float, metadata: Metadata, until: float
    ) -> pb.PublishInteractionStreamResponse:
        """As wire.py's `_one_by_one`."""
        call: grpc.aio.UnaryUnaryMultiCallable[pb.PublishInteractionsRequest, pb.PublishInteractionsResponse]
        call = self._open().unary_unary(
            rpcs.PUBLISH.path, rpcs.PUBLISH.request.SerializeToString, rpcs.PUBLISH.answer.FromString
        )
        sent = OneByOne()
        for payload in payloads:
            request = pb.PublishInteractionStreamRequest.FromString(payload).request
            try:
                sent.stored(await call(request, timeout=seconds, metadata=metadata))
            except grpc.RpcError as error:
                if not sent.failed(request, error):
                    break
            if time.monotonic() >= until:
                break
        return sent.answer

    async def _image(self, interaction_id: str, timeout: float | None) -> bytes:
        request = pb.GetImageRequest(interaction_id=checks.text("interaction_id", interaction_id, required=True))
        patience, metadata = Patience(self._seconds(timeout)), self._metadata()

        async def receive(seconds: float) -> bytes:
            stream: grpc.aio.UnaryStreamMultiCallable[pb.GetImageRequest, pb.GetImageResponse]
            stream = self._open().unary_stream(
                rpcs.GET_IMAGE.path, rpcs.GET_IMAGE.request.SerializeToString, rpcs.GET_IMAGE.answer.FromString
            )
            return b"".join([part.data async for part in stream(request, timeout=seconds, metadata=metadata)])

        return await self._repeat(receive, patience, is_refusal)

    async def _await_own(self, user_id: str | None) -> int:
        sender = self._own_sender()
        if sender is None or sender.is_here():
            return 0
        return await self._await_sender(sender, user_id, OWN_PUBLISHES_SECONDS)

    async def _await_sender(self, sender: Sender, user_id: str | None, seconds: float) -> int:
        watch = await self._aside(sender.spool.watch, user_id)
        if watch.done.done():
            return watch.waiting_for
        try:
            await asyncio.wait([asyncio.wrap_future(watch.done)], timeout=seconds)
        finally:
            left = await self._aside(sender.spool.unwatch, watch)
        return left

    async def _go_behind(self, user_id: str | None, seconds: float, undone: str, *, deletes_only: bool = False) -> None:
        if (here := self._own_sender()) is not None:
            here.check_elsewhere()
        sender = await self._aside(lambda: self._sender_before(deletes_only=deletes_only))
        if sender is None:
            return
        if deletes_only:
            left = await self._await_sender(sender, user_id, seconds)
        else:
            left = await self._await_all(sender, user_id, time.monotonic() + seconds)
        if left:
            raise self._held_up(sender, left, seconds, undone)

    async def _await_all(self, sender: Sender, user_id: str | None, end: float) -> int:
        left = await self._await_sender(sender, user_id, end - time.monotonic())
        while not left and (left := await self._aside(self._left_by_ended, sender, user_id)) and time.monotonic() < end:
            await asyncio.sleep(AGAIN_SECONDS)
            whose = None if sender.spool.unread else user_id
            left = await self._await_sender(sender, whose, end - time.monotonic())
        return left

    async def _pages(self, pages: queries.InteractionPages, timeout: float | None) -> AsyncIterator[list[Interaction]]:
        while (message := pages.next()) is not None:
            page = pages.read(await self._call(rpcs.GET, message, timeout))
            await self._add_pictures(page, pages.message.include_images, timeout)
            yield page

    async def _request_pages(
        self, pages: queries.RequestPages, timeout: float | None
    ) -> AsyncIterator[list[RequestWithInteractions]]:
        while (message := pages.next()) is not None:
            page = pages.read(await self._call(rpcs.GET_REQUESTS, message, timeout))
            await self._add_pictures((i for r in page for i in r.interactions), pages.message.include_images, timeout)
            yield page

    async def _add_pictures(self, interactions: Iterable[Interaction], wanted: bool, timeout: float | None) -> None:
        for interaction in queries.without_picture(interactions, wanted=wanted):
            with suppress(NotFoundError):  # erased in between
                data = await self._image(interaction.interaction_id, timeout)
                interaction.image_encoding = convert.image_encoding(data)

    async def _disconnect(self) -> None:
        with self._lock:
            channel, self._channel = self._channel, None
            threads, self._threads = self._threads, None
        if channel is not None and self._loop is asyncio.get_running_loop():
            await channel.close()
        if threads is not None:
            threads.shutdown(wait=False)
