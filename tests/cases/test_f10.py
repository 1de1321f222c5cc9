"""F10: emoji and unknown words are found by themselves, and never near in meaning to all others."""

import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tests.support import Caller


def publish(caller: Caller, *contents: str) -> pb.PublishInteractionsResponse:
    request = pb.PublishInteractionsRequest(
        user_id="ann",
        interactions=[noun.InteractionData(content=content) for content in contents],
        wait_until=pb.WAIT_UNTIL_SEARCHABLE,
    )
    return caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=60)


@pytest.mark.parametrize(
    "texts",
    [
        ("🎉", "😡"),
        ("👍", "🚑", "🍕"),
        ("👍!", "😡!", "🎉?!"),
        ("❤️", "☎️", "✅"),
        ("ሰላም", "ቡና", "መጽሐፍ"),
        ("ភាសា", "ទឹក"),
        ("สวัสดีครับ", "ขอบคุณมาก", "ไม่เป็นไร"),
        ("0123456789abcdef" * 7, "fedcba9876543210" * 7),
    ],
    ids=ascii,
)
def test_each_is_found_by_its_words_and_no_other_is_near(caller: Caller, texts: tuple[str, ...]) -> None:
    assert publish(caller, *texts, "a grey kitten").searchable, "what has no vector is not waited for"
    for text in texts:
        for user_id in ("ann", None):
            found = caller.search(query=text, user_id=user_id)
            assert found.unindexed_count == 0
            assert [hit.interaction.content for hit in found.hits] == [text]
            assert (found.hits[0].semantic, found.hits[0].lexical) == (0, 1)
    found = caller.search(query="kitten", user_id="ann")
    assert {hit.interaction.content for hit in found.hits if hit.semantic} == {"a grey kitten"}


def test_the_same_emoji_is_found_in_whatever_colour_or_form(caller: Caller) -> None:
    caller.publish("ann", "👍 done", "❤️", "👨‍👩‍👧 at home", "on 🇩🇪🇫🇷 tour", "1️⃣ first", "so 🎉🎉🎉", "no emoji")
    for query, text in {
        "👍🏽": "👍 done",
        "👍🏿": "👍 done",
        "❤": "❤️",
        "👧": "👨‍👩‍👧 at home",
        "👨‍👩‍👧": "👨‍👩‍👧 at home",
        "🇫🇷": "on 🇩🇪🇫🇷 tour",
        "🎉": "so 🎉🎉🎉",
        "1": "1️⃣ first",
    }.items():
        hits = caller.search(query=query, user_id="ann").hits
        assert [hit.interaction.content for hit in hits if hit.lexical] == [text]
        assert hits[0].interaction.content == text
    assert not [hit for hit in caller.search(query="🇪🇫", user_id="ann").hits if hit.lexical]


def test_a_user_who_only_sends_emoji(caller: Caller) -> None:
    publish(caller, *["🎉"] * 3, "😡")
    hits = caller.search(query="🎉 😡", user_id="ann").hits
    assert [hit.interaction.content for hit in hits][:2] == ["😡", "🎉"], "the rarer one tells more"
    assert all(0 < hit.score < 0.7 for hit in hits)


def test_words_beside_an_emoji_keep_their_meaning(caller: Caller) -> None:
    publish(caller, "a kitten 🎉", "the invoice 😡")
    hits = caller.search(query="a small cat 😡", user_id="ann").hits
    parts = {hit.interaction.content: hit for hit in hits}
    assert parts["a kitten 🎉"].semantic > parts["the invoice 😡"].semantic
    assert parts["the invoice 😡"].lexical > parts["a kitten 🎉"].lexical
