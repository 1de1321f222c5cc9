"""Tests that raise out of a signal handler at any moment, for a process of their own: test_w01.py starts it.

Python's own locks, such as logging's, are not safe from such an exception, and who comes later would wait for them.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import pytest

import reflexio
from reflexio.locks import Condition, Outcome
from reflexio.spool import fork
from tests.client.scripted_server import KEY, ScriptedServer

NOWHERE = "http://127.0.0.1:1/"
INTERRUPTS = 3000


class AtAnyMoment(BaseException):
    """What the handler of the signal raises."""


def raise_it(_number: int, _frame: FrameType | None) -> None:
    raise AtAnyMoment


def interrupt_after(seconds: float, again: float = 0) -> None:
    """Have the signal come then, and again after as many seconds each time."""
    signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, seconds, again)


def interrupt_no_more() -> None:
    """Also not by a signal that is on its way: another thread may have got it, and be about to tell this one."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)


def interrupted(act: Callable[[], object], times: int = INTERRUPTS, seconds: float = 8) -> int:
    """Act again and again, each time ended by the signal at another moment; returns how often it was."""
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    number, end = 0, time.monotonic() + seconds
    while number < times and time.monotonic() < end:
        number += 1
        with suppress(AtAnyMoment):  # it may come twice
            try:
                interrupt_after(chance.uniform(2e-6, 4e-4), 0.02)  # again, should nobody have seen it
                while True:
                    act()
            finally:
                interrupt_no_more()
        interrupt_no_more()
    return number


def in_another_thread(act: Callable[[], object], seconds: float = 20) -> None:
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(act()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "another thread waits for a lock that nobody lets go"


def test_publishes(scripted: ScriptedServer) -> None:
    client = reflexio.ReflexioClient(KEY, scripted.url)
    client.publish_interaction("u", [{"content": "x"}]).wait(20)
    assert interrupted(lambda: client.publish_interaction("u", [{"content": "x"}])) > 100
    in_another_thread(lambda: client.publish_interaction("u", [{"content": "y"}]).wait(20))
    in_another_thread(lambda: client.flush(60).delivered or pytest.fail("it was not delivered"), 60)
    assert client.flush(20).delivered
    assert client.stats().pending == 0
    assert "y" in scripted.stored_contents()
    client.close()


def test_the_very_first_publishes(scripted: ScriptedServer) -> None:
    clients: list[reflexio.ReflexioClient] = []

    def first() -> None:
        clients.append(reflexio.ReflexioClient(KEY, NOWHERE))
        clients[-1].publish_interaction("u", [{"content": "x"}])

    interrupted(first, 60, seconds=10)
    for client in clients:
        in_another_thread(lambda c=client: c.publish_interaction("u", [{"content": "y"}]))  # type: ignore[misc]
        client.close(0)


def test_waiting_flushing_reading(scripted: ScriptedServer) -> None:
    client = reflexio.ReflexioClient(KEY, scripted.url)

    def wait() -> None:
        receipt = client.publish_interaction("u", [{"content": "x"}])
        client.flush(5)
        receipt.wait(5)
        client.search_interactions(user_id="u", query="x", top_k=1)

    assert interrupted(wait, 1000) > 100
    in_another_thread(lambda: client.publish_interaction("u", [{"content": "y"}]).wait(20))
    in_another_thread(lambda: client.flush(60).delivered or pytest.fail("it was not delivered"), 60)
    in_another_thread(lambda: client.search_interactions(user_id="u", query="x", top_k=1))
    for lock in fork._calls.locks():  # and no fork waits for a call that ended
        in_another_thread(lambda lock=lock: lock.acquire(timeout=10))  # type: ignore[misc]
    client.close()


def test_the_condition_and_the_outcome_alone() -> None:
    condition, outcomes = Condition(), list[Outcome[int]]()

    def use() -> None:
        outcomes.append(Outcome())
        with condition, condition:
            condition.notify_all()
        with condition:
            condition.wait(1e-5)
        with suppress(TimeoutError):
            outcomes[-1].result(1e-5)

    assert interrupted(use) > 1000
    in_another_thread(lambda: condition.acquire(timeout=5))
    for outcome in outcomes:
        outcome.set_result(1)
        assert outcome.result(1) == 1


def forked(client: reflexio.ReflexioClient) -> int:
    """The exit code of a child that used the client."""
    pid = os.fork()
    if not pid:
        try:
            client.publish_interaction("u", [{"content": "of a child"}]).wait(10)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("hanging", [False, True], ids=["at rest", "a call in progress"])
def test_every_moment_of_a_fork(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, hanging: bool) -> None:
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    monkeypatch.setattr(fork, "_CALL_SECONDS", 0.1)
    monkeypatch.setattr(fork, "_SETTLE_SECONDS", 0.05)
    client = reflexio.ReflexioClient(KEY, scripted.url)
    client.publish_interaction("u", [{"content": "x"}]).wait(20)
    ending = threading.Event()

    def busy() -> None:
        while not ending.is_set():
            with suppress(reflexio.ReflexioError):
                client.publish_interaction("u", [{"content": "y"}])
                client.search_interactions(user_id="u", query="y", top_k=1)
                time.sleep(0.001)

    def hang() -> None:
        with suppress(reflexio.ReflexioError):
            client.who_am_i(timeout=60)

    if hanging:
        scripted.always("WhoAmI", lambda *_: ending.wait(60))
        threading.Thread(target=hang, daemon=True).start()
        time.sleep(0.2)
    threading.Thread(target=busy, daemon=True).start()
    try:
        for step in range(60 if not hanging else 15):
            delay = 1e-5 + step * (2e-5 if not hanging else 2e-2)
            with suppress(AtAnyMoment):
                try:
                    interrupt_after(delay)
                    pid = os.fork()
                    if not pid:
                        os._exit(0)  # what is raised inside gRPC's own hooks may leave it unusable here
                finally:
                    interrupt_no_more()
            interrupt_no_more()
            assert not any(fork._held.values())
            in_another_thread(lambda: client.publish_interaction("u", [{"content": "z"}]))
    finally:
        ending.set()
    in_another_thread(lambda: client.search_interactions(user_id="u", query="x", top_k=1))
    client.close(0)


def test_a_handler_that_raises_once_in_each_hook(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The very first step of a hook is one where handlers are called, too."""
    said: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    client = reflexio.ReflexioClient(KEY, scripted.url)
    client.publish_interaction("u", [{"content": "x"}]).wait(20)
    for name in ("_take", "_calls_ended"):
        real, raised = getattr(fork, name), [AtAnyMoment(), KeyboardInterrupt(), ValueError("theirs")]

        def interrupted(*given: object, real: object = real, raised: list[BaseException] = raised) -> object:
            answer = real(*given)  # type: ignore[operator]
            if raised:
                raise raised.pop()
            return answer

        monkeypatch.setattr(fork, name, interrupted)
        said.clear()
        assert forked(client) == 0
        assert len(said) == 1  # Python says what it passed over
        monkeypatch.setattr(fork, name, real)
        assert fork._held == {}
        in_another_thread(lambda: client.publish_interaction("u", [{"content": "y"}]).wait(20))
    client.close()
