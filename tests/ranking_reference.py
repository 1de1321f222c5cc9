"""The parts of a score that come from others of a thread, by plain loops."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb

CLOSING = " \t\r\n\"'”’»›)]}）」』】*_"


@dataclass(frozen=True)
class Around:
    """How well those around an interaction fit: 0 to 1 each."""

    near: float = 0.0
    thread: float = 0.0
    answer: float = 0.0


def base_of(hit: pb.SearchHit) -> float:
    return (0.4 * hit.semantic + 0.35 * hit.lexical) / 0.75


def score_of(hit: pb.SearchHit) -> float:
    """By the formula of the contract."""
    own = 0.4 * hit.semantic + 0.35 * hit.lexical
    around = 0.25 * hit.near + 0.15 * hit.thread + 0.1125 * hit.answer
    return max(0.0, (own + around + 0.08 * hit.role + 0.15 * hit.time - 0.05 * hit.asks) / 1.4925)


def asks(content: str) -> bool:
    return content.rstrip(CLOSING).endswith(("?", "？", "؟"))


def around(items: Iterable[noun.Interaction], base: Mapping[str, float]) -> dict[str, Around]:
    """Of each interaction, by its id; `base` says how well each fits by itself."""
    threads: dict[tuple[str, str], list[noun.Interaction]] = defaultdict(list)
    for item in items:
        if item.content and item.request_group:
            threads[item.user_id, item.request_group].append(item)
    found = {}
    for thread in threads.values():
        thread.sort(key=lambda item: (item.created_at.ToNanoseconds(), item.sequence))
        fits = [base.get(item.interaction_id, 0.0) for item in thread]
        for place, item in enumerate(thread):
            near = {place - 2: 0.8, place - 1: 1.0, place + 1: 1.0, place + 2: 0.8}
            found[item.interaction_id] = Around(
                max((share * fits[at] for at, share in near.items() if 0 <= at < len(thread)), default=0.0),
                max((fit for at, fit in enumerate(fits) if at != place), default=0.0),
                fits[place - 1] if place and asks(thread[place - 1].content) else 0.0,
            )
    return found
