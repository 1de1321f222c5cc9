"""Searches across languages, over the wire, with the embedder e5; and a store of MiniLM's that changes to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from reflexio_server.index.loading import load_embedder
from reflexio_server.storage import embedders
from tests.server.core.recovery import back
from tests.support import Caller, LocalServer
from tests.wire import wait_until

SAID = {
    "en": "The parcel has not arrived yet.",
    "de": "Ich habe mein Passwort vergessen.",
    "ru": "Я хочу вернуть деньги за билет.",
    "ar": "الطقس بارد جدا اليوم.",
    "hi": "मुझे एक अच्छा रेस्तरां चाहिए।",
    "zh": "我们的孩子喜欢踢足球。",
    "th": "หมอบอกให้ฉันพักผ่อน",
}
ASKED = {  # each in another language than the answer, and without a word of it
    "en": "我的包裹在哪里？",
    "de": "How can I reset my password?",
    "ru": "Wie bekommt man eine Erstattung für die Fahrkarte?",
    "ar": "What is it like outside?",
    "hi": "где можно вкусно поесть?",
    "zh": "कौन सा खेल बच्चों को पसंद है?",
    "th": "What did her physician say?",
}
UNREAD = "ߒߞߏ"  # N'Ko, which the model does not know


@pytest.fixture(scope="module")
def e5_server(e5_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    running = LocalServer(tmp_path_factory.mktemp("data"), e5_dir, embedder="e5")
    yield running
    running.stop()


def publish(caller: Caller) -> None:
    for language, text in SAID.items():
        caller.publish("ann", text, request_id=language)
    caller.publish("ann", UNREAD, request_id="unread")
    wait_until(lambda: caller.search(query="x").unindexed_count == 0, "all vectors")


@pytest.mark.parametrize("of_user", [True, False], ids=["a user", "the account"])
def test_an_answer_in_another_language_is_the_first_hit(e5_server: LocalServer, e5_dir: Path, of_user: bool) -> None:
    caller = e5_server.new_caller()
    publish(caller)
    embedder = load_embedder("e5", e5_dir)
    for language, question in ASKED.items():
        hits = caller.search(query=question, **({"user_id": "ann"} if of_user else {})).hits
        assert hits[0].interaction.request_id == language
        assert hits[0].lexical == 0
        assert "unread" not in {hit.interaction.request_id for hit in hits}
        vector = embedder.embed_query(question)
        for hit in [] if of_user else hits:  # in a user's part everyday words are not asked for
            cosine = float(embedder.embed(hit.interaction.content)[0] @ vector)
            assert hit.semantic == pytest.approx(min(max((cosine - 0.75) / 0.17, 0), 1), abs=1e-5)
        assert 0.1 < hits[0].semantic <= 1


def test_what_it_cannot_read_is_found_by_its_words_alone(e5_server: LocalServer) -> None:
    caller = e5_server.new_caller()
    publish(caller)
    hits = caller.search(query=UNREAD, user_id="ann").hits
    assert [(hit.interaction.request_id, hit.semantic, hit.lexical) for hit in hits] == [("unread", 0, 1)]


@pytest.mark.sqlite  # where a start chooses the model
@pytest.mark.usefixtures("every_account")
def test_a_store_of_minilm_changes_to_e5_while_it_answers(tmp_path: Path, e5_dir: Path) -> None:
    server = LocalServer(tmp_path, e5_dir, embedder="minilm-int8")
    try:
        caller = server.new_caller()
        publish(caller)
        assert caller.search(query=ASKED["hi"], user_id="ann").hits == [], "MiniLM does not understand Russian"
        server.stop()
        server = LocalServer(tmp_path, e5_dir, embedder="e5")
        caller = back(server, caller)
        while server.live_model() == 1:
            assert caller.search(query=SAID["en"], user_id="ann").hits[0].interaction.request_id == "en"
        with server.app.database.read() as conn:
            assert embedders.model_id(conn, embedders.live(conn)) == "multilingual-e5-small/int8/1"
        for language, question in ASKED.items():
            for user in ({"user_id": "ann"}, {}):
                assert caller.search(query=question, **user).hits[0].interaction.request_id == language
    finally:
        server.stop()
