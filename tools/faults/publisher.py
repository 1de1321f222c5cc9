"""`publisher WAY COUNT PAUSE IDS`: the process under test: publishes COUNT requests, then ends in its WAY.

Each id goes to the file IDS, unbuffered, right after publish_interaction returned it.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from reflexio import AsyncReflexioClient, QueueFullError, ReflexioClient
from tools.faults import plants

FLUSH_SECONDS = 300.0


class Publisher:
    """Publishes and tells the oracle."""

    def __init__(self, count: int, pause: float, ids: Path) -> None:
        self.count = count
        self._pause = pause
        self._ids = os.open(ids, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def accept(self, request_id: str) -> None:
        os.write(self._ids, f"{request_id}\n".encode())
        if self._pause:
            time.sleep(self._pause)

    def publish(self, client: ReflexioClient, count: int | None = None) -> None:
        for number in range(self.count if count is None else count):
            while True:
                try:
                    receipt = client.publish_interaction("user", [interaction(number)], source="faults")
                except QueueFullError:
                    time.sleep(0.1)  # refused, hence not accepted
                else:
                    break
            self.accept(receipt.request_id)

    async def publish_awaited(self, client: AsyncReflexioClient) -> None:
        for number in range(self.count):
            receipt = await client.publish_interaction("user", [interaction(number)], source="faults")
            self.accept(receipt.request_id)


def interaction(number: int) -> dict[str, Any]:
    """Most have no text, or embedding it would take the processor from what is tested."""
    return {"content": f"what was said, {number}"} if number % 10 == 0 else {"user_action": "scroll"}


def normal(to: Publisher) -> None:
    to.publish(ReflexioClient())


def exception(to: Publisher) -> None:
    to.publish(ReflexioClient())
    raise RuntimeError("uncaught, on purpose")


def asyncio_async(to: Publisher) -> None:
    async def main() -> None:
        await to.publish_awaited(AsyncReflexioClient())

    asyncio.run(main())


def asyncio_sync(to: Publisher) -> None:
    async def main() -> None:
        to.publish(ReflexioClient())

    asyncio.run(main())


def signalled(number: signal.Signals, to: Publisher) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
    client = ReflexioClient()
    to.publish(client)
    os.kill(os.getpid(), number)
    time.sleep(60)


def os_exit(to: Publisher) -> None:
    client = ReflexioClient()
    to.publish(client)
    os._exit(0)


def forked(to: Publisher) -> None:
    """Two children, one that ends as multiprocessing's do and one that ends as a script does; all three publish."""
    client = ReflexioClient()
    to.publish(client, to.count // 2)
    children = []
    for ends_at_once in (True, False):
        child = os.fork()
        if not child:
            to.publish(client)
            if ends_at_once:
                os._exit(0)
            return
        children.append(child)
    to.publish(client, to.count - to.count // 2)
    for child in children:
        os.waitpid(child, 0)


def spawned(to: Publisher) -> None:
    to.publish(ReflexioClient())
    arguments = (to.count, to._pause, Path(sys.argv[4]))
    process = multiprocessing.get_context("spawn").Process(target=_in_spawned, args=arguments)
    process.start()
    process.join()


def _in_spawned(count: int, pause: float, ids: Path) -> None:
    normal(Publisher(count, pause, ids))


def stay(to: Publisher) -> None:
    """Wait for delivery, as a service that goes on running."""
    os.nice(5)  # many of these must not keep a server from starting
    client = ReflexioClient()
    to.publish(client)
    client.flush(FLUSH_SECONDS)


WAYS = {
    "normal": normal,
    "exception": exception,
    "asyncio-async": asyncio_async,
    "asyncio-sync": asyncio_sync,
    "sigterm": lambda to: signalled(signal.SIGTERM, to),
    "sigint": lambda to: signalled(signal.SIGINT, to),
    "os-exit": os_exit,
    "sigkill": lambda to: signalled(signal.SIGKILL, to),
    "fork": forked,
    "spawn": spawned,
}
"""How a process of the exit matrix ends."""

if __name__ == "__main__":
    plants.into_client()
    way, count, pause, file = sys.argv[1:]
    {**WAYS, "stay": stay}[way](Publisher(int(count), float(pause), Path(file)))
