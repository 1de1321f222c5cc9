"""90 s of mixed load, 30 to settle and a minute to measure: memory, files and threads of the server do not grow."""

import contextlib
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.contract import NEVER_STORED
from tools.faults.caller import Caller
from tools.faults.fleet import EMAIL, Fleet, Server
from tools.faults.row import Row, Run
from tools.server_process import PASSWORD

SETTLE_SECONDS, SECONDS = 30.0, 60.0
SHORT_SETTLE_SECONDS, SHORT_SECONDS = 4.0, 6.0
# Files or threads: some calls more at once than before may come late; a leak would be one for each call.
SHORT_GROWN = 8
RSS_SLOPE_MB = 1.0  # a minute
_CALLERS = 4
_MORE_CALLERS = 8  # while it settles: so that what grows with calls at once has grown
_SAMPLE_SECONDS = 0.25  # readings scatter by 1 MiB, as arenas shrink and grow: 60 could not tell a slope of 1 from none
_REST_SECONDS = 0.05  # what a call leaves to do behind its answer
_USERS, _REQUESTS, _TURNS = 20, 10, 4
_PICTURE_BYTES = 300_000
_WORDS = "parcel invoice walrus ledger tomato router garden piano refund ticket violin passport".split()


@dataclass(slots=True)
class Sample:
    """What the server's process held at a moment."""

    at: float
    rss_mb: float
    files: frozenset[str]
    threads: int


@dataclass(slots=True)
class Load:
    """What is asked again and again; nothing of it stores anything new, but for the keys of a few logins."""

    requests: list[pb.PublishInteractionsRequest]
    pictures: list[str]
    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _busy: int = 0
    _paused: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextlib.contextmanager
    def at_rest(self) -> Iterator[None]:
        """No call is in flight meanwhile: such come and go by megabytes."""
        with self._changed:
            self._paused = True
            self._changed.wait_for(lambda: not self._busy, 60)
        time.sleep(_REST_SECONDS)
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()

    @contextlib.contextmanager
    def _in_flight(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._paused)
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify_all()

    def run(self, server: Server, source: random.Random, until: float) -> None:
        caller = server.caller()
        kinds: list[tuple[float, Callable[[Caller, random.Random], None]]] = [
            (30, self._publish),
            (3, self._stream),
            (20, self._search),
            (15, self._get),
            (10, self._get_requests),
            (5, self._image),
            (0.05, self._login),
            (15, self._fail),
        ]
        weights, calls = zip(*kinds, strict=True)
        counts = Counter[str]()
        try:
            while not self.over.is_set() and time.monotonic() < until:
                (call,) = source.choices(calls, weights)
                with self._in_flight():
                    call(caller, source)
                counts[call.__name__.lstrip("_")] += 1
        except Exception as error:
            self.wrong.append(f"{call.__name__.lstrip('_')}: {error}")
        finally:
            caller.channel.close()
            with self._changed:
                self.calls += counts

    def _publish(self, caller: Caller, source: random.Random) -> None:
        answer = caller.interactions.PublishInteractions(source.choice(self.requests), **caller.options)
        assert answer.replayed

    def _stream(self, caller: Caller, source: random.Random) -> None:
        messages = [pb.PublishInteractionStreamRequest(request=one) for one in source.sample(self.requests, 20)]
        verdict = caller.interactions.PublishInteractionStream(iter(messages), **caller.options)
        assert verdict.requests.duplicate == len(messages)

    def _search(self, caller: Caller, source: random.Random) -> None:
        user: dict[str, str] = {"user_id": f"user {source.randrange(_USERS)}"} if source.random() < 0.8 else {}
        assert caller.search(query=" ".join(source.sample(_WORDS, 3)), top_k=10, **user).hits

    def _get(self, caller: Caller, source: random.Random) -> None:
        answer = caller.get(user_id=f"user {source.randrange(_USERS)}", page_size=30, include_images=True)
        assert answer.interactions

    def _get_requests(self, caller: Caller, source: random.Random) -> None:
        request = pb.GetRequestsRequest(user_id=f"user {source.randrange(_USERS)}", page_size=10)
        assert caller.interactions.GetRequests(request, **caller.options).request_groups

    def _image(self, caller: Caller, source: random.Random) -> None:
        _, data = caller.image(source.choice(self.pictures))
        assert len(data) == _PICTURE_BYTES

    def _login(self, caller: Caller, source: random.Random) -> None:
        caller.auth.Login(auth_pb.LoginRequest(email=EMAIL, password=PASSWORD), timeout=60)

    def _fail(self, caller: Caller, source: random.Random) -> None:
        path = "/reflexio.v1.InteractionService/GetInteractions"
        junk: Any = caller.channel.unary_unary(path)
        failing: tuple[tuple[Callable[[], object], grpc.StatusCode], ...] = (
            (lambda: caller.get(user_id=""), grpc.StatusCode.INVALID_ARGUMENT),
            (lambda: junk(b"\xff", **caller.options), grpc.StatusCode.INVALID_ARGUMENT),
            (lambda: caller.image(NEVER_STORED), grpc.StatusCode.NOT_FOUND),
            (lambda: junk(b"", timeout=60), grpc.StatusCode.UNAUTHENTICATED),
        )
        call, code = source.choice(failing)
        try:
            call()
        except grpc.RpcError as error:
            found = error.code()
        else:
            found = grpc.StatusCode.OK
        if found is not code:
            raise AssertionError(f"{found}, not {code}")


def run(run: Run) -> Row:
    settle, seconds = (SHORT_SETTLE_SECONDS, SHORT_SECONDS) if run.short else (SETTLE_SECONDS, SECONDS)
    with Fleet() as fleet:
        server = Server(fleet, run.store(), arguments=())
        server.start()
        load = _fill(server, run.chosen)
        began = time.monotonic()
        ends = [began + settle + seconds + 60] * _CALLERS + [began + settle / 2] * _MORE_CALLERS
        threads = [
            threading.Thread(target=load.run, args=(server, random.Random(run.chosen.random()), end), daemon=True)
            for end in ends
        ]
        for thread in threads:
            thread.start()
        samples = []
        while time.monotonic() < began + settle + seconds and not load.wrong:
            time.sleep(_SAMPLE_SECONDS)
            with load.at_rest():
                samples.append(_sample(server))
        load.over.set()
        for thread in threads:
            thread.join(60)
    measured = [one for one in samples if one.at > began + settle]
    row = Row("soak", {"calls": load.calls.total()}, load.wrong)
    row.exactly("failed_callers", len(load.wrong), 0)
    most_grown = SHORT_GROWN if run.short else 0
    if len(measured) > 1:
        slope = statistics.linear_regression([one.at for one in measured], [one.rss_mb for one in measured]).slope * 60
        if run.short:  # too short for memory to have settled
            row.figures["rss_slope_mb_per_minute"] = round(slope, 2)
        else:
            row.at_most("rss_slope_mb_per_minute", round(slope, 2), RSS_SLOPE_MB)
        opened = measured[-1].files - measured[0].files
        row.at_most("files_grown", max(len(one.files) for one in measured) - len(measured[0].files), most_grown)
        row.failures += [f"opened meanwhile: {name}" for name in sorted(opened)] if row.missed else []
        third = len(measured) // 3  # each stream has a thread of its own while it is open
        first, last = (min(one.threads for one in part) for part in (measured[:third], measured[-third:]))
        row.at_most("threads_grown", last - first, most_grown)
        row.figures |= {"files": len(measured[-1].files), "threads": last}
        row.figures |= {"rss_mb": round(measured[-1].rss_mb, 1)}
        row.figures["rss_mb_by_second"] = {f"{one.at - began:.0f}": round(one.rss_mb, 1) for one in samples[::20]}
    row.figures |= {"calls_by_kind": dict(load.calls.most_common()), "measured_s": seconds}
    return row


def _fill(server: Server, source: random.Random) -> Load:
    """Store what is asked for, all of it searchable."""
    caller = server.caller()
    requests, pictures = [], []
    for user in range(_USERS):
        for number in range(_REQUESTS):
            items = [noun.InteractionData(content=" ".join(source.choices(_WORDS, k=12))) for _ in range(_TURNS)]
            last = number == _REQUESTS - 1
            if last:
                items.append(noun.InteractionData(image=source.randbytes(_PICTURE_BYTES)))
            request = pb.PublishInteractionsRequest(
                user_id=f"user {user}",
                request_id=f"{user} {number}",
                request_group=f"thread {number % 5}",
                source="soak",
                interactions=items,
                wait_until=pb.WAIT_UNTIL_SEARCHABLE if last else pb.WAIT_UNTIL_STORED,
            )
            answer = caller.interactions.PublishInteractions(request, **caller.options)
            request.wait_until = pb.WAIT_UNTIL_UNSPECIFIED
            requests.append(request)
            if last:
                pictures.append(answer.interaction_ids[-1])
    with ThreadPoolExecutor(_CALLERS + _MORE_CALLERS) as pool:
        # What is opened for calls at once is opened now, and each connection's pages are read.
        list(pool.map(lambda word: caller.search(query=word, top_k=10), _WORDS * 20))
        users = [f"user {number}" for number in range(_USERS)] * (_CALLERS + _MORE_CALLERS)
        list(pool.map(lambda user: caller.get(user_id=user, page_size=1000, include_images=True), users))
    caller.channel.close()
    return Load(requests, pictures)


def _sample(server: Server) -> Sample:
    folder = Path(f"/proc/{server.pid}")
    files = frozenset(f"{file.name} {file.readlink()}" for file in (folder / "fd").iterdir())
    threads = len(list((folder / "task").iterdir()))
    return Sample(time.monotonic(), server.rss_mb(), files, threads)
