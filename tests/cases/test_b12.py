"""B12: the event loop never waits for a disk or a lock of the spool."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import reflexio
from tests.client.scripted_server import KEY, ScriptedServer

HELD_SECONDS = 2.0
Client = reflexio.AsyncReflexioClient

CALLS: dict[str, Callable[[Client], Awaitable[Any]]] = {
    "publish": lambda client: client.publish_interaction("ada", [{"content": "x"}]),
    "delete": lambda client: client.delete_user("bob"),
    "search": lambda client: client.search_interactions(user_id="ada", query="x"),
    "waiting publish": lambda client: client.publish_interaction("ada", [{"content": "y"}], wait_for_response=True),
    "flush": lambda client: client.flush(20),
    "stats": lambda client: client.stats(),
    "close": lambda client: client.close(5),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_spool_that_is_busy_stops_only_who_needs_it(name: str) -> None:
    server = ScriptedServer()
    server.start()

    async def main() -> tuple[float, float]:
        client = reflexio.AsyncReflexioClient(KEY, server.url)
        await client.publish_interaction("ada", [{"content": "first"}])
        await client.flush(20)
        (sender,) = client._all_senders()
        held, longest = threading.Event(), 0.0

        def hold() -> None:  # as a checkpoint on a slow disk does
            with sender.spool.changed:
                held.set()
                time.sleep(HELD_SECONDS)

        threading.Thread(target=hold).start()
        assert held.wait(10)
        call = asyncio.ensure_future(CALLS[name](client))
        began = last = time.monotonic()
        while not call.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await call
        took = time.monotonic() - began
        await client.close(5)
        return longest, took

    longest, took = asyncio.run(main())
    assert took > HELD_SECONDS / 2, "the call did not need the spool: this test shows nothing"
    assert longest < HELD_SECONDS / 4
    server.stop()
