"""B2: what a signal handler raises while a fork is prepared lets go of everything, and the child is sound."""

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import pytest

import reflexio
from reflexio import fork
from tests.cases.test_w01 import AtAnyMoment, in_another_thread
from tests.client.scripted_server import KEY, ScriptedServer


def raise_it(_number: int, _frame: FrameType | None) -> None:
    raise AtAnyMoment


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
    before = signal.signal(signal.SIGALRM, raise_it)
    try:
        for step in range(60 if not hanging else 15):
            delay = 1e-5 + step * (2e-5 if not hanging else 2e-2)
            with suppress(AtAnyMoment):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    pid = os.fork()
                    if not pid:
                        os._exit(0)  # what is raised inside gRPC's own hooks may leave it unusable here
                    signal.setitimer(signal.ITIMER_REAL, 0)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            assert not any(fork._held.values())
            in_another_thread(lambda: client.publish_interaction("u", [{"content": "z"}]))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
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
