"""F8: a query is cut into words as the index is, so a text is found by itself however it is typed."""

import os
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server import words
from reflexio_server.core.query_words import search_words
from reflexio_server.core.ranking import lexical_parts
from reflexio_server.model import NewInteraction, NewRequest, StoredRequest, UserAction
from reflexio_server.storage import erasing, full_text
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import DATABASE_FILE, Database
from reflexio_server.storage.publishing import store_requests
from tests.support import Caller
from tests.wire import publish, seeded

pytestmark = pytest.mark.store

LONG = bool(os.environ.get("REFLEXIO_LONG"))
EXAMPLES = 3_000 if LONG else 150
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
FORMS: dict[str, Callable[[str], str]] = {
    **{form: lambda text, form=form: unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")},  # type: ignore[misc]
    "upper": str.upper,
    "lower": str.lower,
    "title": str.title,
    "full width": lambda text: text.translate(WIDE),
    "marked as text from the left": lambda text: "\u200e".join(text) if "\u200b" not in text else text,
}
SAID = (
    "İade talebim var",
    "IĞDIR'dan ığdırlı",
    "Bestätigung fehlt, Straße GROß",
    "Καλημέρα σας, ΟΔΥΣΣΕΥΣ",
    "한국어 이름",
    "ガラス ｶﾞﾗｽ",
    "Tiếng Việt thẻ tín dụng",
    "हिन्दी में क्षमा",
    "Ёлка и йод",
    "Windows™ 10² m½ №5",
    "the ﬁle of Ångström naïve café",
)


def lexical(caller: Caller, query: str, user_id: str = "ann") -> dict[str, float]:
    return {hit.interaction.content: hit.lexical for hit in caller.search(query=query, user_id=user_id).hits}


@pytest.mark.parametrize("form", FORMS)
def test_a_text_has_all_its_own_words_in_every_form(caller: Caller, form: str) -> None:
    caller.publish("ann", *SAID)
    caller.publish("bob", *map(FORMS[form], SAID))
    for text in SAID:
        assert lexical(caller, FORMS[form](text))[text] == 1
        if (
            "™" not in text
        ):  # which is a word of its own too, so that "Windows" is found: it asks for more than its form
            assert lexical(caller, text, "bob")[FORMS[form](text)] == 1


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("iade", SAID[0]),
        ("İADE", SAID[0]),
        ("igdir'dan", SAID[1]),
        ("bestatigung", SAID[2]),
        ("strasse", SAID[2]),
        ("gross", SAID[2]),
        ("οδυσσευς", SAID[3]),
        ("καλημερα", SAID[3]),
        ("ガラス", SAID[5]),
        ("thẻ", SAID[6]),
        ("क्षमा", SAID[7]),
        ("елка", SAID[8]),
        ("windows", SAID[9]),
        ("m", SAID[9]),
        ("file cafe", SAID[10]),
    ],
)
def test_a_word_is_found_without_capitals_and_accents(caller: Caller, query: str, text: str) -> None:
    caller.publish("ann", *SAID)
    assert lexical(caller, query)[text] == 1


def test_a_mark_makes_another_word_where_it_makes_another_letter(caller: Caller) -> None:
    caller.publish("ann", "कि", "की", "カキ", "ガキ")
    for text in ("कि", "की", "カキ", "ガキ"):
        assert {found for found, part in lexical(caller, text).items() if part} == {text}


def test_an_address_is_cut_in_the_same_way(caller: Caller) -> None:
    url = "https://example.com/" + unicodedata.normalize("NFD", "Bestätigung") + "/हिन्दी_x"
    publish(caller, "ann", noun.InteractionData(user_action_description="opened", interacted_image_url=url))
    (hit,) = caller.search(query="Bestätigung हिन्दी x", user_id="ann").hits
    assert hit.lexical == 1


NASTY = ("🎉", "👍🏽", "👨‍👩‍👧", "🇩🇪🇫🇷", "1️⃣", "❤️", "ß", "ŉ", "ᾳ", "ǰ", "ﬀ", "Ⅷ", "①", "™", "ªº", "\u0345", "\u0301")
NEAR = "aAıIİ ßſ_-.'ΣσςäÄ\u0308\u0301ﬁ１Ａ\u00ad\u200d\ufe0f가각\u1100\u1161カ\u3099"
pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from([*SAID, *NASTY]),
    st.text(st.characters(categories=["L", "Mn", "Mc", "N", "So", "Zs"]), max_size=12),
    st.text(st.sampled_from(NEAR), max_size=12),
)
texts = st.lists(pieces, min_size=1, max_size=5).map("".join)


@pytest.mark.timeout(1800 if LONG else 180)
@pytest.mark.sqlite  # looks what its index holds
def test_any_text_is_found_by_all_its_forms_and_erased_with_all_its_words(tmp_path: Path) -> None:
    database = Database(tmp_path, owner=True)
    counted = {"texts": 0, "with words": 0, "words": 0}
    with database.write() as conn:
        add_account(conn, "", "", "", 1)
        conn.exec_driver_sql("CREATE VIRTUAL TABLE kept USING fts5vocab(full_text, 'instance')")

    @seed(seeded().getrandbits(32))
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(text=texts)
    def holds(text: str) -> None:
        counted["texts"] += 1
        with database.write() as conn:
            stored = store(conn, text, counted["texts"])
            cut = words.cut(text) if text.isascii() else words.to_index(text).split()
            assert kept(conn) == {token for word in cut for token in stemmed(word)}, "what the index took"
            assert all(len(stemmed(word)) == 1 for word in cut), "and a word is one for it too"
            for form, change in FORMS.items():
                asked = search_words(change(text))
                assert bool(asked) == bool(cut), form
                matches = [match.refs for match in full_text.matches(conn, 1, None, asked, 10)]
                found, parts, _ = lexical_parts(matches, [len(match) for match in matches], 1)
                assert (found.tolist(), parts.round(9).tolist()) == (([stored.refs[0]], [1.0]) if cut else ([], [])), (
                    form
                )
            counted["with words"] += bool(cut)
            counted["words"] += len(cut)
            erasing.erase_request(conn, 1, stored.request_id, None, 1)
            assert kept(conn) == set(), "nothing of it is left in the index"

    holds()
    print(counted)
    database.close()
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as plain:
        plain.execute("INSERT INTO full_text (full_text) VALUES ('integrity-check')")
    assert counted["with words"] > EXAMPLES / 2


def store(conn: Connection, text: str, number: int) -> StoredRequest:
    item = NewInteraction("User", text, UserAction.NONE, "", "", None, None)
    (stored,) = store_requests(conn, [(1, NewRequest(f"r{number}", "ann", "", "", "", (item,), bytes(32)))], 1)
    assert isinstance(stored, StoredRequest)
    return stored


def kept(conn: Connection) -> set[str]:
    return set(conn.exec_driver_sql("SELECT term FROM kept WHERE col = 'text'").scalars())


_alone = sqlite3.connect(":memory:", check_same_thread=False)
_alone.execute("CREATE VIRTUAL TABLE alone USING fts5(text, tokenize='porter ascii')")
_alone.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(alone, 'row')")


def stemmed(word: str) -> list[str]:
    """What the index's tokenizer makes of one word."""
    _alone.execute("DELETE FROM alone")
    _alone.execute("INSERT INTO alone VALUES (?)", (word,))
    return [token for (token,) in _alone.execute("SELECT term FROM tokens")]
