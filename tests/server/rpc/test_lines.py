"""Whose call a thread takes next."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import copy_context

import pytest

from reflexio_server.rpc.lines import Lines, Place, Threads, aside
from tests.wire import wait_until


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(32, "test")
    yield made
    made.end()


def submit(lines: Lines, account_id: int, work: Callable[[], object]) -> None:
    def hand_over() -> None:
        place = Place(lines, account_id)
        place.submit(copy_context().run, work)

    copy_context().run(hand_over)


def test_a_line_of_many_holds_up_no_other_account(threads: Threads) -> None:
    lines = Lines(threads, 8)
    release = threading.Event()
    running: Counter[int] = Counter()

    def work(account_id: int) -> None:
        running[account_id] += 1
        release.wait(30)

    for account_id in (1, 2, 3, 4, 5):
        for _ in range(50):
            submit(lines, account_id, lambda who=account_id: work(who))  # type: ignore[misc]
    wait_until(lambda: running.total() == 9, "as many as find a place")
    assert running == {1: 4, 2: 2, 3: 1, 4: 1, 5: 1}, "half of what is left, and one in any case"
    assert (len(lines), lines.waiting, lines.length(1)) == (250, 241, 50)
    release.set()
    wait_until(lambda: not len(lines), "all")
    assert running == dict.fromkeys(range(1, 6), 50)
    assert lines.length(1) == 0


def test_an_account_beside_one_of_many_goes_on(threads: Threads) -> None:
    lines = Lines(threads, 2)
    release = threading.Event()
    began: list[int] = []

    def work(account_id: int) -> None:
        began.append(account_id)
        if account_id == 1:
            release.wait(30)

    for account_id in (*[1] * 20, *[2] * 5):
        submit(lines, account_id, lambda who=account_id: work(who))  # type: ignore[misc]
    wait_until(lambda: lines.length(2) == 0, "all of the second")
    assert began == [1, 2, 2, 2, 2, 2]
    release.set()
    wait_until(lambda: not len(lines), "all")
    assert len(began) == 25


def test_a_call_that_turns_out_to_be_an_accounts_is_counted_there(threads: Threads) -> None:
    strangers, calls = Lines(threads, 2), Lines(threads, 8)
    release, moved = threading.Event(), threading.Event()

    def work() -> None:
        place.move(calls, 7)
        moved.set()
        release.wait(30)

    place = copy_context().run(Place, strangers, 0)
    place.submit(work)
    assert moved.wait(10)
    assert (len(strangers), calls.length(7)) == (0, 1)
    release.set()
    wait_until(lambda: not len(calls), "its end")


def test_what_a_call_raises_costs_no_thread_and_no_place(threads: Threads, caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(threads, 2)

    def fail() -> None:
        raise SystemExit

    with caplog.at_level(logging.CRITICAL):
        for _ in range(200):
            submit(lines, 1, fail)
        wait_until(lambda: not len(lines), "all")
    done = threading.Event()
    submit(lines, 1, done.set)
    assert done.wait(10)


def test_a_call_that_stepped_aside_is_counted_and_holds_up_none(threads: Threads) -> None:
    lines = Lines(threads, 4)
    away, back, held = threading.Event(), threading.Event(), threading.Event()
    at: Counter[str] = Counter()

    def step() -> None:
        with aside():
            at["aside"] += 1
            away.wait(30)
        at["back"] += 1
        back.wait(30)

    def hold() -> None:
        at["held"] += 1
        held.wait(30)

    for work in (*[step] * 5, *[hold] * 5):
        submit(lines, 1, work)
    wait_until(lambda: at.total() == 7, "all that step aside, and two that have places")
    assert at == {"aside": 5, "held": 2}
    assert (len(lines), lines.waiting, lines.length(1)) == (10, 3, 10)
    away.set()
    wait_until(lambda: at["back"] == 5, "those that stepped aside")
    held.set()
    wait_until(lambda: len(lines) == 8, "the two with places to be over")
    assert at["held"] == 2, "who is back has all places"
    back.set()
    wait_until(lambda: not len(lines), "all")
    assert at["held"] == 5


def test_its_threads_are_waited_for_whoever_makes_them() -> None:
    """A daemon is cut off at the process's end: in native code, such as an embedding, that aborts the process."""
    threads = Threads(1, "test")
    made: list[threading.Thread] = []
    done = threading.Event()

    def work() -> None:
        made.append(threading.current_thread())
        done.set()

    threading.Thread(target=lambda: threads.run(work), daemon=True).start()  # as grpc's serving thread is
    assert done.wait(10)
    threads.end()
    assert [thread.daemon for thread in made] == [False]
