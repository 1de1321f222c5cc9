"""N5: the best hits of a search do not depend on how many are wanted, and an identical text has all of its words."""

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from passlib.hash import argon2

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import accounts as account_module
from reflexio_server.core import candidates
from tests.reference import GROUPS, ROLES, SOURCES, TIMES, USERS, newest_first, random_scope, selected
from tests.state import wait_for_index
from tests.support import Caller, LocalServer
from tests.wire import everything, seeded, timestamp
from tests.words import Words, use

pytestmark = pytest.mark.usefixtures("every_account")

LONG = bool(os.environ.get("REFLEXIO_LONG"))  # 2,000 examples, some minutes
EXAMPLES, STORES = (2_000, 60) if LONG else (60, 4)
KINDS = ("router", "laptop", "phone", "camera", "desk", "lamp", "chair", "monitor", "keyboard", "mouse")
WORDS = ("boat", "river", "lake", "dog", "horse", "bread", "the", "with", "zq7731", "2024", "What", "is")


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    use(monkeypatch, Words())
    quick = argon2.using(type="ID", memory_cost=8, rounds=1, parallelism=1)
    monkeypatch.setattr(account_module, "_password_hash", quick)
    return start()


Found = tuple[str, float, float, float, float]


def found(caller: Caller, **fields: Any) -> list[Found]:
    hits = caller.search(**fields).hits
    return [(hit.interaction.interaction_id, hit.score, hit.semantic, hit.lexical, hit.thread) for hit in hits]


def test_a_clickstream_whose_words_repeat(server: LocalServer) -> None:
    """An address that exists is found among the first ten, with all of its words, whatever the top_k."""
    caller = server.new_caller()
    source = seeded()

    def requests(count: int) -> Iterator[pb.PublishInteractionsRequest]:
        for number in range(count):
            items = [
                noun.InteractionData(
                    user_action=noun.USER_ACTION_CLICK,
                    user_action_description=source.choice(("", "clicked add to cart", "opened")),
                    interacted_image_url=f"https://shop.example.com/{source.choice(KINDS)}/{source.randrange(50)}",
                )
                for _ in range(10)
            ]
            yield pb.PublishInteractionsRequest(
                user_id=f"user {number % 3}",
                interactions=items,
                request_id=f"r{number}",
                request_group=f"visit {number // 3}",
            )

    assert caller.stream(list(requests(300))).requests.stored == 300
    wait_for_index(server)
    stored = everything(caller)
    addresses = {item.interaction_id: item.interacted_image_url for item in stored}
    address = stored[0].interacted_image_url
    for scope in ({}, {"user_id": stored[0].user_id}):
        for query in (address, address.partition("com/")[2], f"clicked add to cart {address}", "shop"):
            best = found(caller, query=query, top_k=1000, **scope)
            for count in (1, 2, 3, 10, 50, 199, 200, 201, 999):
                assert found(caller, query=query, top_k=count, **scope) == best[:count], (scope, query, count)
            for interaction_id, _, _, lexical, _ in best:
                if addresses[interaction_id] == address and "clicked" not in query:
                    assert lexical == 1, (scope, query)
            if "clicked" not in query and query != "shop":
                # Not always the first: a neighbour in the thread of another such text may gain more by that.
                assert address in [addresses[interaction_id] for interaction_id, *_ in best[:10]], (scope, query)
            if query == "shop":
                assert {lexical for *_, lexical, _ in best} == {1}, "every text has the word"
                assert len(best) == 1000


def test_hits_that_come_abridged_keep_their_order(server: LocalServer) -> None:
    caller = server.new_caller()
    for number in range(4):
        caller.publish("u", *(f"kitten {'grey ' * (place % 5)}{number} {place} {'x' * 65_000}" for place in range(15)))
    wait_for_index(server)
    for scope in ({"user_id": "u"}, {}):
        best = caller.search(query="grey kitten", top_k=1000, **scope).hits
        assert len(best) == 60
        assert [hit.abridged for hit in best] == sorted(hit.abridged for hit in best)
        assert {hit.abridged for hit in best} == {False, True}
        assert [hit.score for hit in best] == sorted((hit.score for hit in best), reverse=True)
        ids = [(hit.interaction.interaction_id, hit.score) for hit in best]
        for count in (1, 10, 46, 48, 59):
            hits = caller.search(query="grey kitten", top_k=count, **scope).hits
            assert [(hit.interaction.interaction_id, hit.score) for hit in hits] == ids[:count]


class Store:
    """An account with random interactions whose words repeat, all of them in the index."""

    def __init__(self, server: LocalServer, source: random.Random) -> None:
        self.caller = server.new_caller()
        self.requests = source.randrange(1, 80)
        vocabulary = source.sample(WORDS, source.randrange(1, len(WORDS) + 1))
        texts = [" ".join(source.choices(vocabulary, k=source.randrange(1, 9))) for _ in range(40)]
        assert self.caller.stream(list(self._messages(source, texts))).requests.stored == self.requests
        wait_for_index(server)
        self.stored = sorted(everything(self.caller), key=newest_first)

    def _messages(self, source: random.Random, texts: list[str]) -> Iterator[pb.PublishInteractionsRequest]:
        for number in range(self.requests):
            items = [
                noun.InteractionData(
                    content=source.choice(texts) if source.random() < 0.7 else "",
                    role=source.choice(ROLES),
                    user_action=noun.USER_ACTION_CLICK,
                    interacted_image_url=f"https://e.org/{source.choice(texts).replace(' ', '/')}",
                    created_at=timestamp(source.choice(TIMES)),
                )
                for _ in range(source.randrange(1, 6))
            ]
            yield pb.PublishInteractionsRequest(
                user_id=source.choice(USERS),
                request_group=source.choice(GROUPS),
                source=source.choice(SOURCES),
                request_id=f"request {number}",
                interactions=items,
            )


def words_of(item: noun.Interaction) -> set[str]:
    """What the index knows an interaction by."""
    return set(f"{item.content} {item.interacted_image_url}".lower().replace("/", " ").replace(".", " ").split())


@pytest.mark.timeout(1800 if LONG else 180)
def test_the_best_are_the_beginning_of_the_best_of_more(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random stores and filters, users and whole accounts, with bounds that are met as in large stores."""
    stores: dict[int, Store] = {}
    first = seeded().getrandbits(32)
    counted = {"asked Chroma": 0, "of an account": 0, "identical": 0, "hits": 0}
    query_of = server.app.follower.query

    def counting(*given: Any, **named: Any) -> Any:
        counted["asked Chroma"] += 1
        return query_of(*given, **named)

    monkeypatch.setattr(server.app.follower, "query", counting)

    @seed(first)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(number=st.integers(0, STORES - 1), drawn=st.integers(0, 2**32 - 1))
    def holds(number: int, drawn: int) -> None:
        if number not in stores:
            stores[number] = Store(server, random.Random(first + number))
        store, source = stores[number], random.Random(drawn)
        for name in ("EXACT_USER", "EXACT_FILTERED", "NEAREST", "WORD_MATCHES", "MOST_FETCHED", "TAIL"):
            bound = source.choice((1, 3, 20, 20_000))
            monkeypatch.setattr(candidates, name, bound if name != "MOST_FETCHED" else max(bound, 20), raising=False)
        scope = random_scope(source, store.requests)
        if source.random() < 0.5:
            scope.pop("user_id", None)
        if source.random() < 0.5:
            scope["filter"] = pb.InteractionFilter()
        inside = selected(store.stored, scope)
        identical = source.choice(inside) if inside and source.random() < 0.5 else None
        if identical:
            query = identical.content or identical.interacted_image_url
        else:
            query = " ".join(source.choices((*WORDS, "marble"), k=source.randrange(1, 6)))
        check(store.caller, scope, query, source, inside, identical)
        counted["of an account"] += "user_id" not in scope
        counted["identical"] += identical is not None

    def check(
        caller: Caller,
        scope: dict[str, Any],
        query: str,
        source: random.Random,
        inside: list[noun.Interaction],
        identical: noun.Interaction | None,
    ) -> None:
        best = found(caller, query=query, top_k=1000, **scope)
        counted["hits"] += len(best)
        for count in {1, 2, source.randrange(1, 30), source.randrange(1, 999)}:
            assert found(caller, query=query, top_k=count, **scope) == best[:count], (scope, query, count)
        if best:
            least = source.choice(best)[1]
            wanted = [hit for hit in best if hit[1] >= least]
            assert found(caller, query=query, top_k=1000, min_score=least, **scope) == wanted
            assert found(caller, query=query, top_k=3, min_score=least, **scope) == wanted[:3]
        lexical = {interaction_id: part for interaction_id, _, _, part, _ in best}
        wanted_words = set(query.lower().replace("/", " ").replace(".", " ").split()) - {"https:"}
        for item in inside:
            if wanted_words <= words_of(item):
                assert lexical[item.interaction_id] == 1, (scope, query, item)
        if identical:
            assert lexical[identical.interaction_id] == 1
        assert set(lexical) <= {item.interaction_id for item in inside}

    holds()
    print(counted)
    assert all(count > EXAMPLES // 10 for count in counted.values())
