"""In which order calls are worked on: each account's wait in a line of its own, before any thread is taken for them."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from queue import SimpleQueue
from typing import Any

from reflexio.supervised import say

logger = logging.getLogger(__name__)

STRANGER = 0
"""Stands for the account of whose key is not known yet."""


def leaves_enough(held: int, free: int, wanted: int = 1) -> bool:
    """Whether who holds `held` of something may take `wanted` more of what is `free`.

    Nobody gets more than what stays for the others: alone half of all, beside another a third, and so on. Who holds
    nothing always gets some, even if that is not free.
    """
    return not held or held + wanted <= free


class Threads:
    """At most `most` threads that run what they are given, which raises nothing; each is made when none is idle.

    The process ends when they have: `end` must be called.

    A ThreadPoolExecutor would do, for three times the work of the thread that gives: grpc's one serving thread.
    """

    def __init__(self, most: int, name: str) -> None:
        self._left = deque([None] * most)
        self._name = name
        self._idle: deque[None] = deque()
        self._works: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def run(self, work: Callable[[], object]) -> None:
        self._works.put(work)
        try:
            self._idle.pop()
        except IndexError:
            if self._left:
                self._left.pop()
                # A daemon, as a thread of grpc's makes unless told, would be cut off in native code, which aborts.
                threading.Thread(target=self._run, name=self._name, daemon=False).start()

    def end(self) -> None:
        """Let each end when all that was given is done."""
        self._works.put(None)

    def _run(self) -> None:
        while work := self._works.get():
            work()
            del work  # or what it holds would stay until the next one comes
            self._idle.append(None)
        self._works.put(None)  # for the next thread


class _Line:
    """The calls of one account: those that are worked on, those that stepped aside, and those that wait, the longest
    waiting first."""

    __slots__ = ("aside", "running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.aside = 0
        self.waiting: deque[tuple[Place, Callable[[], object]]] = deque()

    def __len__(self) -> int:
        return self.running + self.aside + len(self.waiting)


class Lines:
    """Gives threads to calls: to the account's that has the fewest, see `leaves_enough`.

    `places`: how many calls are worked on at the same time; one more for each account that has none.
    """

    def __init__(self, threads: Threads, places: int) -> None:
        self.waiting = 0
        """Calls of all accounts that wait."""
        self._threads = threads
        self._free = places
        self._running = 0
        self._aside = 0
        self._lines: dict[int, _Line] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Calls, whether they are worked on or wait."""
        return self._running + self._aside + self.waiting

    def length(self, account_id: int) -> int:
        """Calls of an account."""
        line = self._lines.get(account_id)
        return len(line) if line else 0

    def submit(self, place: "Place", work: Callable[[], object]) -> None:
        """Have a thread do the work of a call when its turn comes."""
        with self._lock:
            line = self._line(place.account_id)
            if not leaves_enough(line.running, self._free):
                line.waiting.append((place, work))
                self.waiting += 1
                return
            self._take(line)
        self._threads.run(partial(self._work, place, work))

    def enter(self, account_id: int) -> None:
        """Count a call that a thread is working on already."""
        with self._lock:
            self._take(self._line(account_id))

    def leave(self, account_id: int) -> None:
        """Such a call is over, or counted elsewhere: another may begin."""
        self._begin(self._next(account_id))

    def step_aside(self, account_id: int) -> None:
        """A call that is worked on needs no place for a while: another may begin."""
        self._begin(self._next(account_id, aside=1))

    def step_back(self, account_id: int) -> None:
        """Such a call goes on; it waits for no place, so that there may be none for the next."""
        with self._lock:
            line = self._lines[account_id]
            line.aside -= 1
            self._aside -= 1
            self._take(line)

    def _work(self, place: "Place", work: Callable[[], object]) -> None:
        """Do the work of a call, and go on with that of those whose turn it is then."""
        following: tuple[Place, Callable[[], object]] | None = (place, work)
        while following:
            place, work = following
            try:
                work()
            except BaseException:  # the calls that wait may not suffer for it
                say(logger.exception, "a call ended its thread's work")
            if place.lines is self:
                following = self._next(place.account_id)
            else:  # it is counted elsewhere since
                place.lines.leave(place.account_id)
                following = None

    def _line(self, account_id: int) -> _Line:
        line = self._lines.get(account_id)
        if line is None:
            line = self._lines[account_id] = _Line()
        return line

    def _take(self, line: _Line) -> None:
        line.running += 1
        self._running += 1
        self._free -= 1

    def _begin(self, following: "tuple[Place, Callable[[], object]] | None") -> None:
        if following:
            self._threads.run(partial(self._work, *following))

    def _next(self, over: int, aside: int = 0) -> "tuple[Place, Callable[[], object]] | None":
        """A call of the account `over` is over, or steps aside: the one whose turn it is, if there is a place."""
        with self._lock:
            line = self._lines[over]
            line.running -= 1
            line.aside += aside
            self._running -= 1
            self._aside += aside
            self._free += 1
            if not len(line):
                del self._lines[over]
            if not self.waiting:
                return None
            able = [one for one in self._lines.values() if one.waiting and leaves_enough(one.running, self._free)]
            if not able:
                return None
            line = min(able, key=lambda one: one.running)
            self._take(line)
            self.waiting -= 1
            return line.waiting.popleft()


class Place(ThreadPoolExecutor):
    """The place of one call in its account's line; to grpc the pool of threads that this call is handed to."""

    def __init__(self, lines: Lines, account_id: int) -> None:  # a pool's own would make locks and queues
        self.lines = lines
        self.account_id = account_id
        _place.set(self)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """What is returned tells grpc nothing: it would count calls by it, and contend for a lock with each."""
        self.lines.submit(self, partial(fn, *args, **kwargs))
        return _TAKEN

    def move(self, lines: Lines, account_id: int) -> None:
        """Count the call, which a thread works on, in the line that it belongs to."""
        was, account = self.lines, self.account_id
        lines.enter(account_id)
        self.lines, self.account_id = lines, account_id
        was.leave(account)


_TAKEN: Future[Any] = Future()
_TAKEN.set_result(None)
_place: ContextVar[Place] = ContextVar("place")


def place() -> Place:
    """The place of the call that this thread is handling. Raises LookupError when it handles none."""
    return _place.get()


@contextmanager
def aside() -> Iterator[None]:
    """A block that others need not wait for: in it the call that this thread is handling, if any, takes no place."""
    here = _place.get(None)
    if here is None:
        yield
        return
    lines, account_id = here.lines, here.account_id
    lines.step_aside(account_id)
    try:
        yield
    finally:
        lines.step_back(account_id)
