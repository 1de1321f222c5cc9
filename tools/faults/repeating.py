"""Callers that send each request until it is acknowledged, and note what every attempt came to."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from reflexio.status import error_from_rpc
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.row import Row

PATIENCE_SECONDS = 90.0  # for an acknowledgement, over all attempts
_PASSING = {"UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"}  # the last is said of calls in a server that ends
_PAUSE = 0.05  # before a call is tried again
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call, at a time of time.monotonic()."""

    began: float
    seconds: float
    code: str
    has_time: bool
    """Whether a refusal said when to come again."""
    foreseen: bool
    """Whether the server said it, and not a connection that was lost on the way."""


@dataclass(slots=True)
class Repeater:
    """Publishes one request after another, at each of the addresses in turn, and repeats some that were acknowledged.

    `user`: of what it publishes. `reads`: how many reads go with each publish.
    """

    addresses: Sequence[str]
    api_key: str
    user: str
    source: random.Random
    reads: int = 0
    pause: float = 0.0
    timeout: float = 30.0
    accepted: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    replayed_first: int = 0
    """Requests of which the first attempt was answered as if it were not the first."""
    other_ids: int = 0
    """Repeated requests that were answered with other ids than before."""
    _callers: list[Caller] = field(default_factory=list)
    _turn: int = 0

    def run(self, over: threading.Event) -> None:
        self._callers = [Caller(address, self.api_key) for address in self.addresses]
        try:
            while not over.is_set():
                self._publish(f"{self.user} {len(self.accepted)}")
                for _ in range(self.reads):
                    self._until_done(self.source.choice((self._get, self._search)))
                over.wait(self.pause)
        except Exception as error:
            self.wrong.append(f"{self.user}: {error}")
        finally:
            for caller in self._callers:
                caller.channel.close()

    def _publish(self, request_id: str) -> None:
        request = pb.PublishInteractionsRequest(
            user_id=self.user,
            request_id=request_id,
            interactions=[noun.InteractionData(content=f"{request_id} was said")],
        )

        def publish(caller: Caller) -> Any:
            return caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=self.timeout)

        answer, tries = self._until_done(publish)
        self.replayed_first += answer.replayed and tries == 1
        self.accepted[request_id] = tuple(answer.interaction_ids)
        if self.source.random() < 0.1:
            again, _ = self._until_done(publish)
            self.other_ids += tuple(again.interaction_ids) != self.accepted[request_id] or not again.replayed

    def _get(self, caller: Caller) -> Any:
        request = pb.GetInteractionsRequest(user_id=self.user, page_size=5)
        return caller.interactions.GetInteractions(request, metadata=caller.metadata, timeout=self.timeout)

    def _search(self, caller: Caller) -> Any:
        request = pb.SearchInteractionsRequest(user_id=self.user, query="what was said", top_k=3)
        return caller.interactions.SearchInteractions(request, metadata=caller.metadata, timeout=self.timeout)

    def _until_done(self, call: Callable[[Caller], Any]) -> tuple[Any, int]:
        """The answer, and how often it was asked for; each time the next server."""
        deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            tries += 1
            self._turn += 1
            began = time.monotonic()
            try:
                answer = call(self._callers[self._turn % len(self._callers)])
            except grpc.RpcError as error:
                told = error_from_rpc(error, "the server", self.timeout)
                has_time = told.retry_after is not None
                self.attempts.append(Attempt(began, time.monotonic() - began, told.code, has_time, bool(told.reason)))
                if told.code not in _PASSING or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                self.attempts.append(Attempt(began, time.monotonic() - began, "OK", False, True))
                return answer, tries


@contextmanager
def calling(repeaters: Sequence[Repeater]) -> Iterator[None]:
    """All of them call until the block ends."""
    over = threading.Event()
    threads = [threading.Thread(target=one.run, args=(over,), daemon=True) for one in repeaters]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
    for thread in threads:
        thread.join(2 * PATIENCE_SECONDS)


def judge(row: Row, repeaters: Sequence[Repeater], caller: Caller) -> None:
    """Put into a row what was acknowledged and is not there, or is there twice, or was answered otherwise."""
    found: dict[str, list[str]] = {}
    for user in {one.user for one in repeaters}:
        for item in caller.everything(user_id=user):
            found.setdefault(item.request_id, []).append(item.interaction_id)
    accepted = {request_id: ids for one in repeaters for request_id, ids in one.accepted.items()}
    lost = [one for one in accepted if one not in found]
    other = [one for one, ids in accepted.items() if one in found and tuple(found[one]) != ids]
    row.failures += [wrong for one in repeaters for wrong in one.wrong][:_NAMED]
    row.failures += [f"lost: {one}" for one in lost[:_NAMED]] + [f"other ids: {one}" for one in other[:_NAMED]]
    row.figures["accepted"] = len(accepted)
    row.exactly("lost", len(lost), 0)
    row.exactly("twice", sum(len(ids) > 1 for ids in found.values()), 0)
    row.exactly("other_ids", len(other) + sum(one.other_ids for one in repeaters), 0)
    row.exactly("replayed_first", sum(one.replayed_first for one in repeaters), 0)
    attempts = [attempt for one in repeaters for attempt in one.attempts]
    row.exactly("internal", sum(one.code not in _PASSING | {"OK"} for one in attempts), 0)
    row.figures["refused"] = sum(one.code in _PASSING for one in attempts)
    row.exactly(
        "no_time_to_come_again", sum(one.foreseen and not one.has_time for one in attempts if one.code in _PASSING), 0
    )
