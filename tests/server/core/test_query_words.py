"""Which words of a query are looked up, and what of it is embedded."""

from itertools import pairwise

from reflexio_server.core.query_words import MOST_WORDS, search_words, without_everyday_words


def test_search_words() -> None:
    words = search_words("What did Caroline SAY about the caroline_smith painting?")
    assert words == {"caroline": "Caroline", "say": "SAY", "smith": "smith", "painting": "painting"}
    assert list(search_words("what is it")) == ["what", "is", "it"], "unless nothing else is left"
    assert search_words("_ - !") == {}
    assert list(search_words("HTTPS://shop.example.com/router/7")) == ["shop", "example", "com", "router", "7"]
    assert search_words("https") == search_words("https://") == {"https": "https"}
    assert len(search_words(" ".join(f"w{number}" for number in range(600)))) == MOST_WORDS


def test_stop_words_are_english_and_no_words_of_others_that_look_like_them_without_their_marks() -> None:
    assert list(search_words("thẻ ｔｈｅ của mẹ")) == ["the", "cua", "me"]


def test_everyday_words() -> None:
    counts = {"caroline": 20, "paint": 19}
    query = "Did Caroline paint?"
    assert without_everyday_words(query, 99, counts) == query
    assert without_everyday_words(query, 100, counts) == "Did  paint?"
    assert without_everyday_words(query, 101, counts) == query
    assert without_everyday_words("the Caroline", 100, {"caroline": 100}) == "the Caroline", "never all"
    assert without_everyday_words("the who", 100, {"the": 100, "who": 1}) == "the who"
    composed, taken_apart = "Did Zo\u00eb paint?", "Did Zoe\u0308 paint?"
    for spelled in (composed, taken_apart):
        assert without_everyday_words(spelled, 100, {"zoe": 20, "paint": 1}) == "Did  paint?"


def test_more_words_than_are_looked_up_are_chosen_from_all_of_the_query() -> None:
    one_run = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    places = [one_run.index(word) for word in search_words(one_run)]
    assert (len(places), min(places)) == (MOST_WORDS, 0)
    assert max(b - a for a, b in pairwise([*places, 299])) <= 6
