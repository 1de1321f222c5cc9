"""Searches held against a plain reference that compares everything, and how much of it Chroma finds."""

from collections.abc import Callable
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import candidates as finding
from reflexio_server.core import query_words
from reflexio_server.storage import facts
from tests.ranking_reference import CLOSING, Around, around, asks, base_of, score_of
from tests.reference import fill, random_scope, selected
from tests.state import index_command, wait_for_index
from tests.support import Caller, LocalServer
from tests.wire import MICROS, everything, publish, seeded, timestamp
from tests.words import Words

pytestmark = pytest.mark.usefixtures("every_account")

VOCABULARY = (
    "boat river ship lake dog cat horse bread cheese wine apple car train plane city house garden music guitar "
    "lamp chair window door stone cloud rain snow wind fire paper pencil book letter street bridge tower bell clock"
).split()
UNSEEN = ("violet", "marble", "thunder")  # in no text: fits by its meaning only
RECALL = 0.95


@pytest.fixture
def server(start: Callable[..., LocalServer], embedder: Words, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setattr(query_words, "EVERYDAY_FROM_TEXTS", 10**9)  # all of a query is embedded
    return start()


def say(source: Any, count: int) -> list[str]:
    ends = ("", "", "?", '?" ')
    return [
        "",
        *(" ".join(source.choices(VOCABULARY, k=source.randrange(2, 6))) + source.choice(ends) for _ in range(count)),
    ]


def meaning(embedder: Words, items: list[noun.Interaction], query: str) -> dict[str, float]:
    """The cosine of each interaction that has a text, by its id."""
    question = embedder.embed_query(query)
    return {item.interaction_id: float(embedder.embed_query(item.content) @ question) for item in items if item.content}


@pytest.mark.store
def test_what_is_found_and_its_order_is_what_a_plain_model_says(server: LocalServer, embedder: Words) -> None:
    """The exact paths: a user's part, and a filtered part of the account."""
    source = seeded()
    caller = server.new_caller()
    stored = fill(caller, source, 120, say(source, 300))
    wait_for_index(server)
    sizes = set()
    for _ in range(100):
        scope = random_scope(source, 120)
        if "user_id" not in scope and scope["filter"] == pb.InteractionFilter():
            continue
        query = " ".join(source.sample((*VOCABULARY, *UNSEEN), source.randrange(1, 4)))
        wanted = selected(stored, scope)
        answer = caller.search(query=query, top_k=1000, **scope)
        assert answer.unindexed_count == 0
        check(list(answer.hits), wanted, meaning(embedder, wanted, query), query, scope)
        sizes.add(len(answer.hits))

        count = source.randrange(1, 20)
        assert caller.search(query=query, top_k=count, **scope).hits == answer.hits[:count]
        if answer.hits:
            least = source.choice(answer.hits).score
            best = caller.search(query=query, top_k=1000, min_score=least, **scope)
            assert best.hits == [hit for hit in answer.hits if hit.score >= least]
    assert len(sizes) > 15, "the filters must not all mean everything or nothing"


def check(
    hits: list[pb.SearchHit],
    wanted: list[noun.Interaction],
    cosines: dict[str, float],
    query: str,
    scope: dict[str, Any],
) -> None:
    found = {hit.interaction.interaction_id: hit for hit in hits}
    assert len(found) == len(hits)
    others = around(wanted, {name: base_of(hit) for name, hit in found.items()})
    for item in wanted:
        cosine, hit = cosines.get(item.interaction_id, 0.0), found.pop(item.interaction_id, None)
        has_word = bool(set(query.split()) & set(item.content.strip(f"?{CLOSING}").split()))
        beside = others.get(item.interaction_id, Around())
        if hit is None:
            assert cosine < 1e-5, (query, scope, item)
            assert not has_word, (query, scope, item)
            assert beside.near < 1e-5, (query, scope, item)
            continue
        assert hit.interaction == item
        assert hit.semantic == pytest.approx(max(0.0, cosine), abs=1e-5)
        assert (hit.lexical > 0) == has_word, (query, scope, item)
        told = Around(hit.near, hit.thread, hit.answer)
        assert astuple(told) == pytest.approx(astuple(beside), abs=1e-5), (query, scope, item)
        assert (hit.role, hit.time, hit.asks) == (item.role in query.split(), 0, asks(item.content))
        assert hit.score == pytest.approx(score_of(hit), abs=1e-6)
    assert not found, "nothing is found that the filter does not mean"
    assert hits == sorted(hits, key=lambda hit: (-hit.score, -hit.interaction.sequence)), "ties: newest stored first"


def test_chroma_finds_nearly_all_that_is_nearest(
    server: LocalServer, embedder: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole account, and parts of it or of a user that are too large to be compared one by one."""
    source = seeded()
    caller = server.new_caller()
    stored = fill(caller, source, 1000, say(source, 3000))
    wait_for_index(server)
    most = len(stored) // 15  # as a filter that passes more than 20,000 of 300,000
    monkeypatch.setattr(finding, "EXACT_FILTERED", most)
    monkeypatch.setattr(finding, "EXACT_USER", most)
    asked = count_queries(server, monkeypatch)

    scopes: list[dict[str, Any]] = [{"filter": pb.InteractionFilter()}]
    while len(scopes) < 40:
        scope = random_scope(source, 1000)
        if len(selected(stored, scope)) > most:
            scopes.append(scope)
    found = nearest = 0
    for number, scope in enumerate(scopes):
        query = f"{source.choice(UNSEEN)} {number}"
        cosines = meaning(embedder, selected(stored, scope), query)
        tenth = sorted(cosines.values(), reverse=True)[9]
        semantic = [hit.semantic for hit in caller.search(query=query, top_k=1000, **scope).hits]
        found += sum(part >= tenth - 1e-5 for part in semantic)
        nearest += sum(cosine >= tenth - 1e-5 for cosine in cosines.values())
        for hit in caller.search(query=query, top_k=20, **scope).hits:
            assert hit.semantic == pytest.approx(max(0.0, cosines[hit.interaction.interaction_id]), abs=1e-4)
    assert asked() >= len(scopes), "these searches must have asked Chroma"
    print(f"recall through Chroma: {found} of {nearest}")
    assert found >= RECALL * nearest


@pytest.mark.store
def test_what_stands_beside_the_nearest_joins_them(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an account that is too large to be compared, few are candidates; those beside them count as in all of it."""
    source = seeded()
    caller = server.new_caller()
    texts = say(source, 300)
    for number in range(150):  # in threads that go on side by side, one request after the other
        items = [
            noun.InteractionData(content=source.choice(texts[1:]), created_at=timestamp(MICROS + 10 * number + place))
            for place in range(source.randrange(1, 6))
        ]
        group = source.choice(("", "a", "b", "c"))
        publish(caller, source.choice("uv"), *items, request_id=str(number), request_group=group)
    stored = everything(caller)
    wait_for_index(server)
    answers = set()
    for number in range(40):
        query = f"{source.choice(UNSEEN)} {source.choice(VOCABULARY)} {number}"
        every = {hit.interaction.interaction_id: base_of(hit) for hit in caller.search(query=query, top_k=1000).hits}
        others = around(stored, every)
        with monkeypatch.context() as few:
            for name, most in (("NEAREST", 30), ("WORD_MATCHES", 5), ("WHOLE_MATCHES", 5)):
                few.setattr(finding, name, most)
            hits = caller.search(query=query, top_k=1000).hits
            few.setattr(facts, "neighbours", lambda *_: (np.zeros((0, 2), np.int64),) * 2)
            alone = {hit.interaction.interaction_id for hit in caller.search(query=query, top_k=1000).hits}
        assert 20 < len(alone) < len(hits) < len(every)
        for hit in hits:
            beside = others.get(hit.interaction.interaction_id, Around())
            assert hit.near <= beside.near + 1e-4, "of those that joined what is beside them may be missing"
            assert hit.answer <= beside.answer + 1e-4
            if hit.interaction.interaction_id in alone:
                assert (hit.near, hit.answer) == pytest.approx((beside.near, beside.answer), abs=1e-4)
                answers.add(hit.answer > 0)
    assert answers == {True, False}


def count_queries(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often Chroma is asked from now on."""
    index = server.app.follower._index
    assert index
    query, count = index.query, [0]

    def counting(*given: Any, **named: Any) -> Any:
        count[0] += 1
        return query(*given, **named)

    monkeypatch.setattr(index, "query", counting)
    return lambda: count[0]


def test_the_model_would_notice(server: LocalServer, embedder: Words) -> None:
    """An answer that lacks a hit, has one too many, or is in another order does not pass."""
    caller: Caller = server.new_caller()
    caller.publish("ann", "boat river", "boat lake", "ship")
    stored = sorted(caller.get(user_id="ann").interactions, key=lambda item: -item.sequence)
    wait_for_index(server)
    hits = list(caller.search(user_id="ann", query="boat river", top_k=1000).hits)
    cosines = meaning(embedder, stored, "boat river")
    check(hits, stored, cosines, "boat river", {})
    for wrong, items in ((hits[1:], stored), (hits[::-1], stored), (hits, stored[:-2])):
        with pytest.raises(AssertionError):
            check(wrong, items, cosines, "boat river", {})
    assert np.isclose(cosines[hits[0].interaction.interaction_id], 1.0)


@pytest.mark.store
def test_answers_outlast_a_restart_and_a_rebuild(server: LocalServer, start: Callable[..., LocalServer]) -> None:
    source = seeded()
    caller = server.new_caller()
    stored = fill(caller, source, 80, say(source, 200))
    wait_for_index(server)
    asked = [
        {"query": f"{' '.join(source.sample((*VOCABULARY, *UNSEEN), 2))} {source.choice(('', '2023', 'May', 'User'))}"}
        | ({"user_id": source.choice(stored).user_id} if number % 2 else {})
        for number in range(30)
    ]

    def answers(of: Caller) -> list[pb.SearchInteractionsResponse]:
        return [of.search(top_k=50, **one) for one in asked]

    before = answers(caller)
    server.stop()
    again = start(server.data_dir)
    anew = Caller(again.address, caller.email, caller.api_key)
    wait_for_index(again)
    assert answers(anew) == before
    index_command(again, "rebuild")
    assert answers(anew) == before


@pytest.mark.store
def test_what_is_added_never_hides_what_a_query_asks_for(server: LocalServer) -> None:
    """Whatever is said beside it, a text with all of the query's words stays among the first five."""
    source = seeded()
    caller = server.new_caller()
    words = list(VOCABULARY)
    source.shuffle(words)
    asked = [" ".join(words[place : place + 3]) for place in range(0, 24, 3)]
    others = words[24:]
    for number, text in enumerate(asked):
        caller.publish(
            "u", text + source.choice(("", "?")), request_id=f"asked {number}", request_group=f"{number % 3}"
        )
    for step in range(30):
        said = " ".join(source.choices(others, k=source.randrange(1, 5))) + source.choice(("", "?"))
        publish(caller, "u", noun.InteractionData(content=said, role=source.choice(words)), request_group=f"{step % 4}")
        if step % 5:
            continue
        wait_for_index(server)
        for number, text in enumerate(asked):
            for scope in ({"user_id": "u"}, {}):
                hits = caller.search(query=text, top_k=5, **scope).hits
                assert f"asked {number}" in [hit.interaction.request_id for hit in hits], (step, text)
