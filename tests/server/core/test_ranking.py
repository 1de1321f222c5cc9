"""The parts of a score, by themselves: what they mean, and that they mean it on every query."""

import math
import os
import random

import numpy as np
import pytest

from reflexio_server.core import ranking
from reflexio_server.storage.vectors import ROW


def refs(*numbers: int) -> np.typing.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def lexical(texts: int, *matches: tuple[int, ...]) -> dict[int, float]:
    counts = [len(match) for match in matches]
    found, parts, shares = ranking.lexical_parts([refs(*match) for match in matches], counts, texts)
    assert not len(found) or sum(shares) == pytest.approx(1)
    return dict(zip(found.tolist(), parts.round(ranking.DECIMALS).tolist(), strict=True))


def test_the_weights_add_up_to_1() -> None:
    weights = (ranking.SEMANTIC_WEIGHT, ranking.LEXICAL_WEIGHT, ranking.THREAD_WEIGHT)
    assert sum(weights) == pytest.approx(1)


@pytest.mark.parametrize("texts", [1, 2, 3, 10, 1_000, 1_000_000])
def test_a_text_with_every_word_of_the_query_has_1_however_few_or_many_texts_there_are(texts: int) -> None:
    everywhere = tuple(range(1, min(texts, 100) + 1))
    assert lexical(texts, (1,)) == {1: 1}
    assert lexical(texts, everywhere)[1] == 1, "even when every text has the word"
    assert lexical(texts, (1,), everywhere)[1] == pytest.approx(1)


def test_a_rare_word_tells_more_than_a_common_one() -> None:
    found = lexical(100, (1,), tuple(range(2, 60)))
    assert found[1] > 0.5 > found[2] > 0
    assert found[1] + found[2] == pytest.approx(1)


def test_a_word_that_no_text_has_lowers_every_part() -> None:
    """Or a query of nonsense and one common word would fit as well as the common word alone."""
    rare = math.log(1 + 100 / 2)
    absent = math.log(1 + 100 / 1)
    assert lexical(100, (7,), ()) == {7: pytest.approx(rare / (rare + absent))}
    assert lexical(100, (), ()) == {}
    assert lexical(100) == {}


def test_a_part_hangs_on_the_users_own_texts_alone() -> None:
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    source = random.Random(seed)
    for _ in range(100):
        texts = source.randrange(1, 300)
        matches = [sorted(source.sample(range(texts), source.randrange(texts + 1))) for _ in range(4)]
        found = lexical(texts, *(tuple(match) for match in matches))
        weights = [ranking.rarity(texts, len(match)) for match in matches]
        assert min(weights) > 0
        for ref in range(texts):
            has = sum(weight for weight, match in zip(weights, matches, strict=True) if ref in match)
            assert found.get(ref, 0) == pytest.approx(has / sum(weights))


def test_each_interaction_counts_once_with_its_best_chunk() -> None:
    rows = np.array([(0, ref, 0, thread) for ref, thread in ((9, 7), (3, 0), (9, 7), (5, -1), (3, 0))], dtype=ROW)
    cosines = np.array([0.2, -0.5, 0.7, 1.0000001, -0.1], dtype=np.float32)
    found, best, threads = ranking.best_per_interaction(rows, cosines)
    assert found.tolist() == [3, 5, 9]
    assert best.tolist() == [0, 1, pytest.approx(0.7)]
    assert threads.tolist() == [0, -1, 7]
    assert [len(column) for column in ranking.best_per_interaction(rows[:0], cosines[:0])] == [0, 0, 0]


def test_equal_scores_come_newest_stored_first_whatever_is_cut() -> None:
    all_refs = refs(*range(1, 1001))
    semantic = np.where(all_refs % 100 == 0, 0.5, 0.25)
    for count in (1, 5, 10, 50, 1000):
        hits = ranking.rank(all_refs, semantic, np.zeros(1000), count)
        expected = sorted(range(1, 1001), key=lambda ref: (-(ref % 100 == 0), -ref))[:count]
        assert [hit.ref for hit in hits] == expected
    assert ranking.rank(all_refs, np.zeros(1000), np.zeros(1000), 10) == [], "what does not fit at all is no hit"


def test_a_thread_lifts_its_hits_but_no_hit_lifts_itself() -> None:
    semantic = np.array([1.0, 0.5, 0.5, 0.2, 0.0])
    threads = refs(7, 0, 7, -9, -9)
    ranked = ranking.rank(refs(1, 2, 3, 4, 5), semantic, np.zeros(5), 10, threads)
    assert [hit.ref for hit in ranked] == [1, 3, 2, 4]
    parts = {hit.ref: hit.thread for hit in ranked}
    share = ranking.SEMANTIC_WEIGHT / (1 - ranking.THREAD_WEIGHT)
    assert parts == {1: pytest.approx(0.5 * share), 3: pytest.approx(share), 2: 0, 4: 0}
    assert ranking.rank(refs(1, 2, 3, 4, 5), semantic, np.zeros(5), 1, threads, 0.3) == ranked[:1]


def test_the_part_of_a_thread_is_what_comparing_all_pairs_says() -> None:
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    source = random.Random(seed)
    for _ in range(300):
        count = source.randrange(30)
        base = np.array([source.choice((0, 0.1, 0.3, 0.5, 0.75)) for _ in range(count)], dtype=np.float64)
        threads = refs(*(source.choice((0, 5, -3, 2**62)) for _ in range(count)))
        parts = ranking.thread_parts(base, threads)
        for place in range(count):
            others = [other for other in range(count) if other != place and threads[other] == threads[place] != 0]
            assert parts[place] == pytest.approx(max((base[other] for other in others), default=0) / 0.75)
