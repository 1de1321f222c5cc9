"""What a search answers with: scores, how many, in which order, within which filter, and how large."""

from collections.abc import Callable

import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.ranking_reference import score_of
from tests.reference import fill, random_scope, selected
from tests.support import Caller, LocalServer
from tests.wire import MIB, publish, seeded

pytestmark = pytest.mark.store

Say = noun.InteractionData
SEARCHABLE = pb.WAIT_UNTIL_SEARCHABLE
TEXTS = ["We adopted a grey kitten from the shelter", "A loaf with walnuts", "The café on Łódź street", "Grey weather"]


def test_scores_are_the_sum_of_parts_between_0_and_1_that_the_contract_tells(caller: Caller) -> None:
    for group in ("trip", "trip", "", "other"):
        caller.publish("u", *TEXTS, request_group=group)
    caller.publish("u", "grey kitten " * 300)
    for query in ("the grey kitten from the shelter", "walnuts", "Łódź", *TEXTS):
        for scope in ({"user_id": "u"}, {}):
            hits = caller.search(query=query, top_k=1000, **scope).hits
            assert hits
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            for hit in hits:
                parts = (hit.semantic, hit.lexical, hit.near, hit.thread, hit.answer, hit.role, hit.time, hit.asks)
                assert all(0 <= part <= 1 for part in (hit.score, *parts))
                assert hit.score == pytest.approx(score_of(hit), abs=1e-6)
                assert hit.thread == 0 or hit.interaction.request_group


def test_min_score_cuts_and_changes_nothing_else(caller: Caller) -> None:
    caller.publish("u", *TEXTS, wait_until=SEARCHABLE)
    everything = caller.search(user_id="u", query="the grey kitten", top_k=100)
    middle = everything.hits[2].score
    some = caller.search(user_id="u", query="the grey kitten", top_k=100, min_score=middle)
    assert [hit.score for hit in some.hits] == [hit.score for hit in everything.hits[:3]]
    assert not caller.search(user_id="u", query="the grey kitten", min_score=1.0).hits


def test_top_k(caller: Caller) -> None:
    publish(caller, "u", *[Say(content=f"kitten {number}") for number in range(30)], wait_until=SEARCHABLE)
    for query in ("", "kitten"):
        assert len(caller.search(query=query).hits) == 10
        for count in (1, 29, 31, 1000):
            assert len(caller.search(query=query, top_k=count).hits) == min(count, 30)


def test_without_a_query_the_newest_come_first(caller: Caller) -> None:
    source = seeded()
    stored = fill(caller, source, 60)
    for _ in range(60):
        scope = random_scope(source, 60)
        answer = caller.search(query=source.choice(("", "  ")), top_k=1000, **scope)
        assert [hit.interaction for hit in answer.hits] == selected(stored, scope), scope
        assert all(hit == pb.SearchHit(interaction=hit.interaction) for hit in answer.hits)


def test_filters_mean_what_a_plain_model_says(caller: Caller) -> None:
    source = seeded()
    stored = fill(caller, source, 60, [f"kitten {number}" for number in range(60)])
    for _ in range(60):
        scope = random_scope(source, 60)
        hits = caller.search(query="kitten", top_k=1000, **scope).hits
        found = [hit.interaction.interaction_id for hit in hits]
        assert sorted(found) == sorted(item.interaction_id for item in selected(stored, scope)), scope


def test_hits_beyond_3_mib_are_abridged_to_their_ids(start: Callable[..., LocalServer]) -> None:
    caller = start().new_caller()  # its index would be busy for long
    sent = [f"{number:6}" + "x" * (65_536 - 6) for number in range(60)]
    caller.publish("u", *sent, source="s")
    answer = caller.search(user_id="u", top_k=1000)
    assert answer.ByteSize() <= 3 * MIB
    full = [hit for hit in answer.hits if not hit.abridged]
    short = answer.hits[len(full) :]
    assert len(answer.hits) == 60
    assert 40 < len(full) < 60
    assert all(hit.abridged for hit in short), "the best come in full"
    assert [hit.interaction.content for hit in full] == sent[::-1][: len(full)]
    for hit in short:
        names = {field.name for field, _ in hit.interaction.ListFields()}
        assert names == {"interaction_id", "user_id", "request_id"}
    missing = caller.get(interaction_ids=[hit.interaction.interaction_id for hit in short], page_size=1000)
    assert [item.content for item in missing.interactions] == sent[::-1][len(full) :]


def test_pictures_come_with_hits_as_far_as_there_is_room(caller: Caller) -> None:
    pictures = [bytes([number]) * MIB for number in range(1, 5)]
    publish(caller, "u", *[Say(content="kitten", image=picture) for picture in pictures], wait_until=SEARCHABLE)
    for query in ("", "kitten"):
        answer = caller.search(query=query, include_images=True)
        assert answer.ByteSize() <= 3 * MIB
        assert [bool(hit.interaction.image.data) for hit in answer.hits] == [True, True, False, False]
        assert [hit.interaction.image.data_omitted for hit in answer.hits] == [False, False, True, True]
        assert answer.hits[0].interaction.image.data == pictures[answer.hits[0].interaction.sequence - 1]
        without = caller.search(query=query)
        assert not any(hit.interaction.image.data or hit.interaction.image.data_omitted for hit in without.hits)
        assert all(hit.interaction.image.size_bytes == MIB for hit in without.hits)
