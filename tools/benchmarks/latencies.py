"""How long single calls take: searches of users of each size and of the whole account, reads, a page of a thread."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from reflexio.v1 import interaction_service_pb2 as pb
from tools.benchmarks import stores as served
from tools.benchmarks.calls import Caller, items_of, ms, percentile
from tools.benchmarks.filling import LARGE_USER, SIZES, Language, sizes_of, users_of
from tools.benchmarks.processes import computed_ms, threads_ns, tree
from tools.benchmarks.stores import Store

QUERIES, QUERIES_OF_LARGE = 300, 60  # of each size of user and store
ACCOUNT_QUERIES = 100
THREAD_REQUESTS, THREAD_PAGES = 16_000, 20
_MILLION = 1_000_000
_OTHER_WORDS = 1  # of a language, see filling.py
_THREAD_USER = "has one thread"


def of_users(stores: Mapping[int, Store], language: Language) -> dict[int, dict[int, Any]]:
    """Milliseconds of searches by size of store and user, by turns; some find their user's vectors not yet in memory,
    as the first search of a user always does."""
    taken: dict[int, dict[int, list[float]]] = {total: {size: [] for size in sizes_of(total)} for total in stores}
    for store in stores.values():
        store.caller.search("the first call of a connection", "nobody")
    for size in sizes_of(max(stores)):
        asked = [total for total in stores if size in sizes_of(total)]
        for number in range(QUERIES if size < LARGE_USER else QUERIES_OF_LARGE):
            question = language.question()
            for total in asked:
                users = users_of(size, sizes_of(total))
                taken[total][size].append(ms(_search(stores[total], question, users[number % len(users)])))
    return taken


def latencies(stores: Mapping[int, Store], language: Language) -> dict[str, Any]:
    taken = of_users(stores, language)
    reader, (largest, *_) = stores[max(stores)].caller, users_of(max(SIZES))
    gets = [ms(lambda: reader.newest(largest)) for _ in range(QUERIES)]
    figures: dict[str, Any] = {"p50_ms": _table(taken, 50), "p99_ms": _table(taken, 99)}
    smallest, usual = min(stores), max((total for total in stores if total < _MILLION), default=min(stores))
    for name, larger in (("growth", usual), ("growth_1m", _MILLION)):
        if larger in stores and larger > smallest:
            figures[name] = round(_median(taken, larger) / _median(taken, smallest), 2)
    return figures | {"get_p50_ms": percentile(gets, 50)}


def account(stores: Mapping[int, Store], language: Language) -> dict[str, Any]:
    """What a search of the whole account has the server and its children compute, by size of store."""
    taken = {total: _account(store, language) for total, store in stores.items()}
    return {
        f"account_p{percent}_cpu_ms": {str(total): percentile(times, percent) for total, times in taken.items()}
        for percent in (50, 90)
    }


def absent(stores: Mapping[int, Store], _: Language) -> dict[str, Any]:
    """The same with words that no store has."""
    language = Language(1, _OTHER_WORDS)
    figures = {"p50_ms": _table(of_users(stores, language), 50)} | account(stores, language)
    return {f"absent_{name}": figure for name, figure in figures.items()}


def thread(arguments: tuple[str, ...]) -> dict[str, Any]:
    """The first page of 1 of a user's requests that are one long thread."""
    with served.empty("--no-indexing", *arguments) as store:
        publish_thread(store.caller)
        return {"thread_page_ms": percentile([thread_page(store.caller) for _ in range(THREAD_PAGES)], 50)}


def publish_thread(caller: Caller) -> None:
    """Again it changes nothing."""
    caller.stream(
        pb.PublishInteractionsRequest(
            user_id=_THREAD_USER,
            request_group="thread",
            request_id=f"of thread {number}",
            interactions=items_of([f"turn {number} of a long thread"]),
        )
        for number in range(THREAD_REQUESTS)
    )


def thread_page(caller: Caller) -> float:
    return ms(lambda: caller.requests(_THREAD_USER, 1))


def _account(store: Store, language: Language) -> list[float]:
    store.caller.search(language.question())
    processes = tree(store.pid)
    taken: list[float] = []
    for _ in range(ACCOUNT_QUERIES):
        question, before = language.question(), threads_ns(processes)
        store.caller.search(question)
        taken.append(computed_ms(before, threads_ns(processes)))
    return taken


def _search(store: Store, question: str, user: str) -> Callable[[], Any]:
    return lambda: store.caller.search(question, user)


def _median(taken: dict[int, dict[int, list[float]]], total: int) -> float:
    return float(np.percentile(taken[total][1_000], 50))


def _table(taken: dict[int, dict[int, list[float]]], percent: float) -> dict[str, dict[str, float]]:
    return {
        str(total): {str(size): percentile(times, percent) for size, times in sizes.items()}
        for total, sizes in taken.items()
    }
