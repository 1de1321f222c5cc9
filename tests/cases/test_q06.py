"""Questionable 06 and 07: what is not seen, or only seen as another form, makes no other word, on either side."""

import pytest

from tests.support import Caller

pytestmark = pytest.mark.store

SAME = [
    ("Sil\u00adben\u00adtren\u00adnung", "Silbentrennung"),  # soft hyphens
    ("pass\u200bword", "password"),  # a zero width space as pages and chats put it into long words
    ("می\u200cخواهم", "میخواهم"),  # zero width non-joiner
    ("\ufeffHallo\u2060Welt", "HalloWelt"),  # byte order mark, word joiner
    ("\u202eabc\u202c \u2067def\u2069", "abc def"),  # marks of direction
    ("ｆｕｌｌ　ｗｉｄｔｈ １２３", "full width 123"),
    ("ﬁnal oﬀer ﬂow", "final offer flow"),
    ("ｶﾞｲﾄﾞ", "ガイド"),
    ("שָׁלוֹם עֲלֵיכֶם", "שלום עליכם"),  # niqqud
    ("مُحَمَّدٌ رَسُول", "محمد رسول"),  # tashkeel
    ("مـــحمد", "محمد"),  # a stroke that makes it longer
    ("e\u034f\u0301te\u0301", "été"),  # the grapheme joiner
    ("𝐛𝐨𝐥𝐝 𝓼𝓬𝓻𝓲𝓹𝓽", "bold script"),
]


@pytest.mark.parametrize(("one", "other"), [*SAME, *((b, a) for a, b in SAME)], ids=ascii)
def test_the_same_to_a_reader_is_the_same_to_a_search(caller: Caller, one: str, other: str) -> None:
    caller.publish("ann", one, "another text")
    hits = caller.search(query=other, user_id="ann").hits
    assert hits[0].interaction.content == one
    assert hits[0].lexical == 1


@pytest.mark.parametrize("query", ["①②③ x²", "123 x2", "x", "1", "Windows", "windowstm"])
def test_a_sign_that_stands_for_letters_or_digits_is_a_word_of_its_own_too(caller: Caller, query: str) -> None:
    caller.publish("ann", "①②③ x² Windows™")
    (hit,) = caller.search(query=query, user_id="ann").hits
    assert hit.lexical == 1


def test_where_no_blanks_are_written_a_zero_width_space_parts_words(caller: Caller) -> None:
    caller.publish("ann", "ភាសា\u200bខ្មែរ", "ภาษา\u200bไทย")
    for query in ("ខ្មែរ", "ไทย"):
        hits = caller.search(query=query, user_id="ann").hits
        assert query in hits[0].interaction.content
        assert hits[0].lexical == 1
