"""Publishes at awkward moments: in signal handlers, at the end of the interpreter, of an event loop."""

import itertools
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import reflexio
from tests.client.processes import expected, run
from tests.client.scripted_server import KEY, ScriptedServer


def test_publishing_in_a_signal_handler_neither_hangs_nor_loses(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(
        server,
        """
        client = connect()
        handled = 0
        def handle(*_):
            global handled
            handled += 1  # a handler may come in the middle of another
            client.publish_interaction("handler", [{"content": f"handler {handled - 1}"}])
        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        publish(client, "main", 3000)
        while handled < 100:
            publish(client, "more", 10)
        signal.setitimer(signal.ITIMER_REAL, 0, 0)
        result = client.flush(90)
        assert result.delivered, result
        print(handled)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert server.stored_contents("main") == expected("main", 3000)
    assert sorted(server.stored_contents("handler")) == sorted(expected("handler", int(done.stdout)))


def interrupted(act: Callable[[], object], at: int, handler: Callable[[], object]) -> bool:
    """Act, and before the `at`-th line of ours in it call the handler; false: there are not so many."""
    own = str(Path(reflexio.__file__).parent)
    lines = itertools.count()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(own):
            return None
        if event == "line" and next(lines) == at:
            sys.settrace(None)
            handler()
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return next(lines) > at


def test_a_publish_in_between_any_two_lines_of_the_first(server: ScriptedServer) -> None:
    """There, the file, the thread and all else are being made: each is made once."""
    for at in itertools.count():
        with reflexio.ReflexioClient(KEY, server.url) as client:

            def publish(user_id: str, client: Any = client, at: int = at) -> None:
                client.publish_interaction(user_id, [{"content": str(at)}])

            reached = interrupted(partial(publish, "main"), at, partial(publish, "handler"))
            assert client.flush(30).delivered
            assert (client.stats().pending, client.stats().delivered) == (0, 1 + reached), at
            assert [thread.name for thread in threading.enumerate()].count("reflexio-sender") == 1
        if not reached:
            break
    assert at > 200
    assert server.stored_contents("main") == [str(i) for i in range(at + 1)]
    assert server.stored_contents("handler") == [str(i) for i in range(at)]


def test_the_end_of_an_event_loop_costs_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(
        server,
        f"""
        import asyncio
        async def main():
            client = reflexio.AsyncReflexioClient({KEY!r}, {server.url!r})
            for i in range(100):
                await client.publish_interaction("ada", [{{"content": f"ada {{i}}"}}])
        asyncio.run(main())
        """,
        tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert server.stored_contents() == expected("ada", 100)


def test_an_exception_that_ends_the_program_costs_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    done = run(server, "publish(connect(), 'ada', 100)\nraise SystemError('oh')", tmp_path)
    assert done.returncode == 1
    assert server.stored_contents() == expected("ada", 100)


def test_who_publishes_after_our_own_end_publishes_for_the_next_start(
    server: ScriptedServer, spool_dir: Path, tmp_path: Path
) -> None:
    done = run(
        server,
        """
        import atexit
        class Late:
            def __del__(self):
                publish(client, "del", 2)
        del sys.modules["reflexio"]
        for name in [n for n in sys.modules if n.startswith("reflexio")]:
            del sys.modules[name]
        atexit.register(lambda: publish(client, "atexit", 3))  # runs after the hook of the copy imported next
        import reflexio
        client = connect()
        client.late = Late()
        publish(client, "ada", 5)
        """,
        tmp_path,
    )
    assert done.returncode == 0
    assert "were not delivered" in done.stderr
    assert str(spool_dir) in done.stderr
    assert server.stored_contents("ada") == expected("ada", 5)
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.flush(60).delivered
    assert server.stored_contents("atexit") == expected("atexit", 3)


def test_a_closed_client_takes_nothing(server: ScriptedServer, spool_dir: Path) -> None:
    client = reflexio.ReflexioClient(KEY, server.url)
    client.publish_interaction("ada", [{"content": "x"}]).wait(30)
    client.close()
    with pytest.raises(reflexio.ClosedError):
        client.publish_interaction("ada", [{"content": "x"}])
    assert os.listdir(spool_dir) == []
