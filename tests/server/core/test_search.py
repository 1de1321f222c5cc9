"""Finding again: by meaning, by words, in a user's part or the whole account, within a filter."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.embedding import VectorMaker
from tests.state import wait_for_index
from tests.support import Caller, LocalServer
from tests.wire import publish

pytestmark = [pytest.mark.store, pytest.mark.usefixtures("every_account")]

Say = noun.InteractionData
SEARCHABLE = pb.WAIT_UNTIL_SEARCHABLE
TEXTS = [
    "The plumber comes on Tuesday to mend the leaking tap",
    "We adopted a grey kitten from the shelter",
    "Interest rates rose again, so the mortgage got dearer",
    "Order zq7731x was sent to the wrong address",
    "The violin lesson was moved to Friday evening",
    "She baked a sourdough loaf with walnuts",
    "The café on Łódź street plays трубач records",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalServer]:
    """A server whose index has nothing else to do."""
    running = LocalServer(tmp_path_factory.mktemp("search"), model_dir)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def library(server: LocalServer) -> Caller:
    """An account that others only read: TEXTS of a user, and another user's."""
    caller = server.new_caller()
    caller.publish("reader", *TEXTS, wait_until=SEARCHABLE)
    caller.publish("other", "A grey kitten of another user", "Nothing of note", wait_until=SEARCHABLE)
    wait_for_index(server)  # searches over an account ask Chroma alone
    return caller


def contents(answer: pb.SearchInteractionsResponse) -> list[str]:
    return [hit.interaction.content for hit in answer.hits]


BY_MEANING = [
    ("a young cat joined our family", 1),
    ("someone to fix the dripping water", 0),
    ("home loan became more expensive", 2),
    ("when do I practise my instrument?", 4),
    ("homemade bread", 5),
]


@pytest.mark.parametrize("scope", [{"user_id": "reader"}, {}], ids=["user", "account"])
@pytest.mark.parametrize(("query", "expected"), BY_MEANING)
def test_by_meaning_without_a_word_in_common(library: Caller, scope: dict[str, Any], query: str, expected: int) -> None:
    answer = library.search(query=query, top_k=3, **scope)
    assert contents(answer)[0] == TEXTS[expected]
    assert answer.hits[0].lexical == 0
    assert answer.hits[0].semantic > 0.2
    assert answer.unindexed_count == 0


@pytest.mark.parametrize("scope", [{"user_id": "reader"}, {}], ids=["user", "account"])
@pytest.mark.parametrize(
    ("query", "expected"),
    [("zq7731x", 3), ("ZQ7731X?", 3), ("violins", 4), ("cafe", 6), ("ŁÓDŹ", 6), ("трубач", 6), ("walnut loaves", 5)],
)
def test_by_words(library: Caller, scope: dict[str, Any], query: str, expected: int) -> None:
    answer = library.search(query=query, **scope)
    (hit,) = [hit for hit in answer.hits if hit.interaction.content == TEXTS[expected]]
    assert hit.lexical == max(other.lexical for other in answer.hits) > 0
    assert contents(answer)[0] == TEXTS[expected]


def test_a_users_part_holds_nothing_of_others(library: Caller) -> None:
    for query in ("", "grey kitten", "nothing of note"):
        assert set(contents(library.search(user_id="reader", query=query, top_k=100))) <= set(TEXTS)
    assert contents(library.search(user_id="other", query="cat"))[0] == "A grey kitten of another user"
    both = contents(library.search(query="grey kitten"))[:2]
    assert set(both) == {TEXTS[1], "A grey kitten of another user"}


def test_an_unknown_user_has_nothing(library: Caller) -> None:
    for query in ("", "grey kitten"):
        assert library.search(user_id="nobody", query=query) == pb.SearchInteractionsResponse()


ODD_QUERIES = [
    *('"', "'", "*", "^", ":", "(", ")", "-", "+", "\\", "%", "_", "__", "{}", "!?…", "\x01", "\u200b", "\ufeff"),
    *("AND", "OR", "NOT", "NEAR", "kitten AND", "NEAR(grey kitten, 2)", "NOT kitten", "kit*", "^kitten", '"grey'),
    *("text : kitten", "owner : a1", "owner", "a1 u1", "-kitten +grey", "rowid", "'; DROP TABLE interactions; --"),
    *(
        "the",
        "what is it and who was that?",
        "I",
        "don't",
        "🙂",
        "👩‍👩‍👧",
        "日本語",
        "שלום",
        "e\u0301",
        "𝕏",
        "ﬁ",
        "İ",
        "½",
    ),
    *("x" * 4096, "word " * 800, "é" * 2048, " ".join(f"w{number}" for number in range(600)), "\n\t kitten \r\n"),
]


@pytest.mark.parametrize("query", ODD_QUERIES, ids=lambda query: repr(query[:20]))
def test_no_query_is_an_error(library: Caller, query: str) -> None:
    for scope in ({}, {"user_id": "reader"}, {"filter": pb.InteractionFilter(roles=["User"])}):
        answer = library.search(query=query, top_k=100, **scope)
        assert len({hit.interaction.interaction_id for hit in answer.hits}) == len(answer.hits)
        if not any(character.isalnum() for character in query):
            assert not any(hit.lexical for hit in answer.hits)


def test_what_was_done_and_the_words_of_addresses_are_found(caller: Caller) -> None:
    publish(
        caller,
        "u",
        Say(user_action=noun.USER_ACTION_CLICK, user_action_description="clicked the export button of the report"),
        Say(user_action=noun.USER_ACTION_SCROLL, interacted_image_url="https://shop.example.com/tents/alpine-2?ref=a"),
        Say(content="Good morning", interacted_image_url="http://example.com/hello"),
        Say(user_action=noun.USER_ACTION_TYPE),
        Say(image=b"a picture without words"),
        wait_until=SEARCHABLE,
    )
    for user in ({}, {"user_id": "u"}):
        for query, sequence in (
            ("export", 1),
            ("download the summary as a file", 1),
            ("alpine tents", 2),
            ("camping gear", 2),
            ("hello", 3),
        ):
            answer = caller.search(query=query, **user)
            assert answer.hits[0].interaction.sequence == sequence, query
            assert {hit.interaction.sequence for hit in answer.hits} <= {1, 2, 3}, "the others have no text"
            assert answer.unindexed_count == 0


def test_a_long_text_is_found_once_by_any_part_of_it(caller: Caller) -> None:
    filler = "The minutes of the meeting list the usual items in the usual order. " * 60
    long = f"{filler} My grandmother keeps bees behind the barn. {filler}"
    caller.publish("u", long, "Shall we take the train?", "The printer is out of paper", wait_until=SEARCHABLE)
    answer = caller.search(user_id="u", query="meeting minutes")
    assert contents(answer).count(long) == 1
    assert contents(answer)[0] == long
    honey = caller.search(user_id="u", query="grandmother's bees")
    assert honey.hits[0].interaction.content == long


def test_a_search_sees_what_was_acknowledged_just_before(caller: Caller) -> None:
    for number in range(10):
        (fresh,) = caller.publish("u", f"The {number}th parcel holds a telescope").interaction_ids
        answer = caller.search(user_id="u", query=f"{number}th instrument to look at stars", top_k=100)
        assert answer.unindexed_count == 0
        (hit,) = [hit for hit in answer.hits if hit.interaction.interaction_id == fresh]
        assert hit.semantic > 0


def test_what_has_no_vector_yet_is_found_by_words_and_counted(
    start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VectorMaker, "start", lambda self: None)  # only those who wait for vectors have them made
    caller = start(freshness_seconds=0).new_caller()
    publish(caller, "u", Say(content="grey kitten"), Say(image=b"no words"), source="a")
    publish(caller, "v", Say(content="black kitten"), source="b")
    wanted: list[tuple[dict[str, Any], list[str], int]] = [
        ({}, ["black kitten", "grey kitten"], 2),
        ({"user_id": "u"}, ["grey kitten"], 1),
        ({"filter": pb.InteractionFilter(sources=["b"])}, ["black kitten"], 1),
        ({"filter": pb.InteractionFilter(sources=["c"])}, [], 0),
    ]
    for scope, texts, count in wanted:
        answer = caller.search(query="kitten", **scope)
        assert sorted(contents(answer)) == texts
        assert answer.unindexed_count == count
        assert all(hit.semantic == 0 < hit.lexical for hit in answer.hits)
        assert not caller.search(query="pet", **scope).hits
    caller.publish("w", "brown kitten", wait_until=SEARCHABLE)
    assert caller.search(query="kitten").unindexed_count == 2
    assert caller.search(user_id="w", query="pet").hits[0].semantic > 0


def test_everyday_words_are_left_out_from_100_texts_on_and_never_all(caller: Caller) -> None:
    """A name that stands in a fifth of the texts pulls a query towards everything; then it is not embedded."""
    guitar = "Caroline plays the guitar"
    caller.publish("u", guitar, *(f"Caroline {number}" for number in range(19)), *(f"walk {n}" for n in range(79)))

    def meaning(query: str) -> float:
        answer = caller.search(user_id="u", query=query, top_k=1000)
        return next(hit.semantic for hit in answer.hits if hit.interaction.content == guitar)

    assert meaning("Caroline guitar") != meaning(" guitar"), "99 texts are too few to tell"
    alone = [meaning(query) for query in ("Caroline", "the Caroline", "CAROLINE?")]
    caller.publish("u", "walk 80")
    assert meaning("Caroline guitar") == pytest.approx(meaning("guitar"), abs=1e-6)
    assert [meaning(query) for query in ("Caroline", "the Caroline", "CAROLINE?")] == alone, "never all of them"
    caller.publish("u", *(f"run {number}" for number in range(10)))
    assert meaning("Caroline guitar") != meaning("guitar"), "now it stands in less than a fifth"
