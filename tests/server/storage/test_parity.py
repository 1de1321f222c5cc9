"""What a server answers does not hang on where it keeps everything: the same calls, to SQLite and to PostgreSQL."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server import words
from reflexio_server.storage import stems
from tests import stores
from tests.reference import random_request, random_scope
from tests.stores import MARK
from tests.support import Caller, LocalServer
from tests.wire import seeded, wait_until
from tests.words import Words
from tools.pictures import png

pytestmark = getattr(pytest.mark, MARK)  # it has both anyway

REQUESTS, SCOPES = 40, 40
# Texts whose words every script cuts in its own way, endings that stems share, and what SQL or an index might mistake.
SAID = (
    "Running shoes for the psychologist's flies",
    "the psychology of a runner, ran 42nd?",
    "Straße gesperrt, STRASSE frei",
    "我的包裹一直没有送到？",
    "包裹 到了",
    "посылка не пришла, посылки нет",
    "안녕하세요 세계",
    "ありがとうございます",
    "สวัสดีครับ",
    "مرحبا بالعالم",
    "café naïve ﬁnd ½ ™",
    "👍 🇩🇪 done",
    "it's 'quoted' \\ back & | ! :* <-> %s %(x)s ; a1 u1 @a1 #x",
    "x" * 3000 + " long",
    " \t",
    "",
)
ASKED = (
    *("psychology runs", "psychological fly", "strasse", "STRAẞE", "包裹", "包", "裹", "посылок", "пришла", "세계"),
    *("ありがとう", "สวัสดี", "مرحبا", "cafe", "find", "1/2", "👍", "🇩🇪", "quoted back", "a1", "u1", "@a1", "x" * 3000),
    *("it's", "the", "%s", "' OR 1=1", "done long"),
)
ROLES = ("User", "Straße", "STRASSE", "ſ", "K", "Агент", "agent")


@pytest.fixture
def both(
    start: Callable[..., LocalServer], databases: stores.Databases, embedder: Words, tmp_path: Any
) -> tuple[Caller, Caller]:
    """Callers of a server on SQLite, and of one on PostgreSQL."""
    sqlite = start(tmp_path / "sqlite")
    url = databases.of(tmp_path / "postgres")
    postgres = start(tmp_path / "postgres", database_url=url)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REFLEXIO_DATABASE_URL", url)
        other = postgres.new_caller()
    return sqlite.new_caller(), other


def same(both: tuple[Caller, Caller], call: Callable[[Caller], Any]) -> Any:
    one, other = map(call, both)
    assert one == other
    return one


def seen(item: noun.Interaction) -> tuple[Any, ...]:
    """Of an interaction all but ids and times of storing."""
    return (item.sequence, item.user_id, item.request_id, item.role, item.content, item.user_action, item.image.sha256)


def test_every_answer_is_the_same(both: tuple[Caller, Caller]) -> None:
    source = seeded()
    published = [random_request(source, f"request {number}", SAID) for number in range(REQUESTS)]
    for number, request in enumerate(published):
        for item in request.interactions:
            item.role = source.choice(ROLES)
        if number % 7 == 0:
            request.interactions[0].image = png(3, number + 1)
    assert {len(one) for one in same(both, lambda caller: [_publish(caller, one) for one in published])} == {3}
    same(both, lambda caller: caller.stream(published[:5]).requests.duplicate)
    for caller in both:
        wait_until(lambda caller=caller: caller.search(query="x").unindexed_count == 0, "vectors")  # type: ignore[misc]
    found = 0
    for number in range(SCOPES):
        if number == SCOPES // 2:
            same(both, lambda caller: [_counts(caller.delete_request(one)) for one in ("request 3", "request 8")])
            same(both, lambda caller: _counts(caller.delete_request_group("ann", "trip")))
            same(both, lambda caller: _counts(caller.delete_user("bob")))
            same(both, lambda caller: [one.index for one in caller.stream(published[3:4]).rejections])
        scope = random_scope(source, REQUESTS)
        if source.random() < 0.3:
            scope["filter"].roles[:] = [source.choice(("strasse", "STRAẞE", "S", "k", "агент", "AGENT"))]
        found += len(same(both, lambda caller: _listed(caller, scope)))  # noqa: B023
        query = source.choice(ASKED)
        found += len(same(both, lambda caller: _found(caller, query, scope)))  # noqa: B023
        if "user_id" in scope:
            same(both, lambda caller: _threads(caller, scope["user_id"]))  # noqa: B023
    assert found > 150


def _publish(caller: Caller, request: pb.PublishInteractionsRequest) -> tuple[str, int, bool]:
    answer = caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=30)
    return answer.request_id, len(answer.interaction_ids), answer.replayed


def _listed(caller: Caller, scope: dict[str, Any]) -> list[Any]:
    listed, token = [], ""
    while True:
        page = caller.get(page_size=50, page_token=token, **scope)
        listed += [seen(item) for item in page.interactions]
        token = page.next_page_token
        if not token:
            return listed


def _found(caller: Caller, query: str, scope: dict[str, Any]) -> list[Any]:
    hits = caller.search(query=query, top_k=20, **scope).hits
    parts = ("score", "semantic", "lexical", "thread", "near", "answer", "role")
    return [(seen(hit.interaction), *(round(getattr(hit, part), 6) for part in parts)) for hit in hits]


def _threads(caller: Caller, user_id: str) -> list[Any]:
    groups = caller.get_requests(user_id=user_id, page_size=50).request_groups
    return [
        (
            group.request_group,
            [(one.request.request_id, [seen(item) for item in one.interactions]) for one in group.requests],
        )
        for group in groups
    ]


def _counts(erased: pb.ErasedCounts) -> tuple[int, int, int]:
    return erased.requests, erased.interactions, erased.images


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.text(max_size=60), max_size=6))
def test_a_word_that_is_asked_for_has_the_stem_of_the_word_that_was_stored(texts: list[str]) -> None:
    """Whatever the text: each of its words, asked for alone, is one of its stems, or begins one."""
    for text in texts:
        stored = stems.stems_of(words.to_index(text))
        for word in words.cut(text):
            (asked,) = stems.stems_of(word)
            assert any(stem.startswith(asked) for stem in stored) if words.begins_others(word) else asked in stored
