"""What the rows about many clients share: a server with accounts, a good client beside the others, slow links."""

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.fleet import make_accounts
from tools.faults.stores import Store, environment
from tools.server_process import ServerProcess


class CrowdedServer:
    """A server in a process of its own, with accounts; killed at the end of the block if it still runs."""

    def __init__(self, store: Store, accounts: int, *arguments: str) -> None:
        self.store = store
        self.api_keys = make_accounts(store, *(f"crowd{number}@example.com" for number in range(accounts)))
        self.process = ServerProcess(store.data_dir, None, *arguments, env={**os.environ, **environment(store)})
        self.address = self.process.address
        self._opened: list[Caller] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._opened:
            client.channel.close()
        if self.process.process.poll() is None:
            self.process.kill()

    def client(self, account: int, address: str = "") -> Caller:
        """A new connection, closed at the end of the block."""
        self._opened.append(Caller(address or self.address, self.api_keys[account % len(self.api_keys)]))
        return self._opened[-1]

    @property
    def pid(self) -> int:
        return self.process.process.pid


class GoodClient:
    """`good_client` in a process of its own, until the block ends: the crowd's threads would slow it down."""

    def __init__(self, server: CrowdedServer, account: int) -> None:
        self.calls = 0
        self.errors: list[str] = []
        self.p99_ms = 0.0
        command = [sys.executable, "-m", "tools.faults.good_client", server.address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(server.api_keys[account] + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "begun\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            said, _ = self._process.communicate(timeout=60)  # closes its input
        finally:
            self._process.kill()
        found = json.loads(said)
        self.calls, self.errors, self.p99_ms = found["calls"], found["errors"], found["p99_ms"]


class Stream:
    """A publish stream: sends what it is given, and stays open until it is closed."""

    def __init__(self, client: Caller, *requests: pb.PublishInteractionsRequest) -> None:
        self._messages: queue.SimpleQueue[pb.PublishInteractionStreamRequest | None] = queue.SimpleQueue()
        for request in requests:
            self._messages.put(pb.PublishInteractionStreamRequest(request=request))
        self.call: Any = client.interactions.PublishInteractionStream.future(
            iter(self._messages.get, None), metadata=client.metadata, timeout=120
        )

    def close(self) -> None:
        self._messages.put(None)

    def outcome(self) -> tuple[str, int]:
        """How it ended, and the requests stored: an EndReason's name without its prefix, or a refusal's status.

        Whatever else ended it comes with its details, as nobody counts on it.
        """
        try:
            verdict = self.call.result(120)
        except grpc.RpcError as error:
            refused = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return error.code().name + ("" if refused else f": {error.details()}"), 0
        finally:
            self.close()
        return pb.EndReason.Name(verdict.end_reason).removeprefix("END_REASON_"), verdict.requests.stored


def publish(request_id: str, content: str = "", image: bytes = b"") -> pb.PublishInteractionsRequest:
    """A request with one interaction."""
    item = noun.InteractionData(content=content or ("" if image else request_id), image=image)
    return pb.PublishInteractionsRequest(user_id="good", request_id=request_id, interactions=[item])


@contextlib.contextmanager
def slow_links(address: str, bytes_per_second: int) -> Iterator[str]:
    """An address that leads to another one, each connection at most so fast towards it."""
    host, _, port = address.rpartition(":")
    at_once = max(1, bytes_per_second // 10)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(at_once):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(pause * len(data) / at_once)
        writer.close()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(asyncio.CancelledError):  # at the end
            await asyncio.gather(forward(reader, there_writer, 0.1), forward(there_reader, writer, 0.0))

    listening: Future[int] = Future()
    over: Future[None] = Future()

    async def listen() -> None:
        server = await asyncio.start_server(link, "127.0.0.1", 0, limit=at_once)
        listening.set_result(server.sockets[0].getsockname()[1])
        await asyncio.wrap_future(over)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(listen(),), daemon=True)  # at its end run() cancels the links
    thread.start()
    try:
        yield f"127.0.0.1:{listening.result(10)}"
    finally:
        over.set_result(None)
        thread.join(10)
