"""What a search finds by words does not hang on how many rows of a word are listed."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection

from reflexio_server.core import candidates
from reflexio_server.core.candidates import Candidates
from reflexio_server.core.query_words import search_words
from reflexio_server.core.ranking import Named
from reflexio_server.core.word_matches import WordMatches
from reflexio_server.index.embedder import Scale
from reflexio_server.model import NewInteraction, NewRequest, UserAction
from reflexio_server.storage import embedders, facts, full_text, standing
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database
from reflexio_server.storage.facts import Texts
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.publishing import store_requests
from reflexio_server.storage.standing import Standing
from tests.wire import seeded

pytestmark = pytest.mark.store

WORDS = [f"word{number}" for number in range(12)]
TEXTS, ACCOUNT, MOST = 400, 1, 15


@pytest.fixture
def source() -> random.Random:
    return seeded()


@pytest.fixture
def database(tmp_path: Path, source: random.Random) -> Iterator[Database]:
    """Texts of one to seven words, the first of which nearly all have, in threads of all sizes, of two accounts."""
    opened = Database(tmp_path, owner=True)
    with opened.write() as conn:
        for number, name in enumerate("ab"):
            add_account(conn, f"{name}@example.com", name * 10, "hash", number)
        embedders.choose(conn, embedders.register(conn, "model", 8))
        for number in range(TEXTS):
            common = [word for place, word in enumerate(WORDS) if source.random() < 0.9 / (1 + place)]
            said = " ".join(common or ["nothing"])
            item = NewInteraction("User", said, UserAction.NONE, "", "", None, None)
            group = source.choice(["", "one", "two", f"thread {number // 5}"])
            request = NewRequest(f"r{number}", source.choice("uv"), group, "", "", (item,), bytes(32))
            store_requests(conn, [(source.choice([ACCOUNT, ACCOUNT, 2]), request)], 1)
    yield opened
    opened.close()


def all_rows(conn: Connection, of: Standing, words: WordMatches, source: random.Random) -> Candidates:
    """All of the account's rows, with made-up cosines."""
    mine = "SELECT id FROM interactions WHERE account_id = ? AND ? IN (-1, user_ref)"
    user = -1 if of.user_ref is None else of.user_ref
    refs = np.array(conn.exec_driver_sql(mine, (ACCOUNT, user)).scalars().all(), dtype=np.int64)
    cosines = np.array([source.choice((0.0, 0.1, 0.5)) for _ in refs], dtype=np.float32)
    rows = facts.of_refs(conn, refs)
    return Candidates(Texts.of(rows), cosines, Scale(), words, 0)


def weighed(conn: Connection, of: Standing, query: Sequence[str], most: int, counts: dict[str, int]) -> WordMatches:
    found = WordMatches(conn, of, search_words(" ".join(query)), most)
    found.counts = counts or found.counts
    found.weigh(of.interactions)
    return found


@pytest.mark.sqlite  # asks for rows in its words
@pytest.mark.parametrize("user", [None, "u"], ids=["account", "user"])
def test_the_best_are_the_same_however_few_rows_are_listed(
    database: Database, source: random.Random, monkeypatch: pytest.MonkeyPatch, user: str | None
) -> None:
    looked_up = [0]
    having = full_text.having

    def counting(conn: Connection, word: str, refs: np.typing.NDArray[np.int64]) -> np.typing.NDArray[np.int64]:
        looked_up[0] += len(refs)
        return having(conn, word, refs)

    monkeypatch.setattr(full_text, "having", counting)
    with database.read() as conn:
        of = standing.of_user(conn, ACCOUNT, user) if user else standing.of_account(conn, ACCOUNT, TEXTS)
        assert of
        for _ in range(60):
            query = source.sample(WORDS, source.randrange(1, 8))
            whole = weighed(conn, of, query, TEXTS, {})
            assert whole.is_all
            found = weighed(conn, of, query, MOST, whole.counts)
            assert not found.is_all or all(count <= MOST for count in whole.counts.values())
            wanted = all_rows(conn, of, whole, random.Random(7))
            asked = all_rows(conn, of, found, random.Random(7))
            for count in (1, 3, 10, 1000):
                for least in (0.0, 0.3):
                    assert asked.best(conn, count, Named(), least) == wanted.best(conn, count, Named(), least)
    assert looked_up[0] > 0


def test_how_many_have_a_word_is_told_by_the_newest(database: Database) -> None:
    with database.read() as conn:
        of = standing.of_account(conn, ACCOUNT, TEXTS)
        asked = search_words(" ".join(WORDS))
        exact = WordMatches(conn, of, asked, TEXTS).counts
        told = WordMatches(conn, of, asked, 40).counts
    assert max(exact.values()) > 120
    for word, count in exact.items():
        assert told[word] == count if count <= 40 else 0.6 * count < told[word] < 1.6 * count, word


def test_those_with_all_the_words_are_candidates_though_no_list_has_them(database: Database) -> None:
    """The oldest text with all the words of a query whose words are common."""
    with database.write() as conn:
        for number, said in enumerate(["early late", *["early"] * 20, *["late"] * 20]):
            item = NewInteraction("User", said, UserAction.NONE, "", "", None, None)
            request = NewRequest(f"more {number}", "u", "", "", "", (item,), bytes(32))
            store_requests(conn, [(ACCOUNT, request)], 1)
    with database.read() as conn:
        of = standing.of_account(conn, ACCOUNT, TEXTS)
        words = weighed(conn, of, ["early", "late"], 10, {})
        chosen = candidates._best_matches(conn, Scope(ACCOUNT, None), words)
        (both,) = conn.exec_driver_sql("SELECT id FROM interactions WHERE content = 'early late'").scalars()
        assert both not in words.refs
        assert chosen[0] == both
