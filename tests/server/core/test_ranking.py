"""The parts of a score, by themselves: what they mean, and that they mean it on every query."""

import math
import os
import random
from dataclasses import astuple

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server.core import ranking
from reflexio_server.index.embedder import Scale
from reflexio_server.storage.facts import ROW, Pairs, Texts
from tests.ranking_reference import Around, around, asks
from tests.wire import seeded


def refs(*numbers: int) -> np.typing.NDArray[np.int64]:
    return np.array(numbers, dtype=np.int64)


def lexical(texts: int, *matches: tuple[int, ...]) -> dict[int, float]:
    counts = [len(match) for match in matches]
    found, parts, shares = ranking.lexical_parts([refs(*match) for match in matches], counts, texts)
    assert not len(found) or sum(shares) == pytest.approx(1)
    return dict(zip(found.tolist(), parts.round(ranking.DECIMALS).tolist(), strict=True))


def test_the_weights_add_up_to_the_divisor() -> None:
    assert sum(weight for weight in ranking.WEIGHTS if weight > 0) == pytest.approx(ranking.LARGEST)


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


def texts(*rows: tuple[int, int, int, bool], pairs: Pairs | None = None) -> Texts:
    """Each (ref, thread, created_at, asks)."""
    made = [(0, ref, 0, thread, created_at, (0, 0, 0), asks) for ref, thread, created_at, asks in rows]
    return Texts.of(np.array(made, dtype=ROW), pairs)


def alone(count: int) -> Texts:
    return texts(*((ref, 0, 0, False) for ref in range(1, count + 1)))


def test_each_interaction_counts_once_with_its_best_chunk() -> None:
    found = texts(*((ref, thread, 0, False) for ref, thread in ((9, 7), (3, 0), (9, 7), (5, -1), (3, 0))))
    cosines = np.array([0.2, -0.5, 0.7, 1.0000001, -0.1], dtype=np.float32)
    assert found.refs.tolist() == [3, 5, 9]
    assert ranking.semantic_parts(found, cosines).tolist() == [0, 1, pytest.approx(0.7)]
    assert found.rows["thread"].tolist() == [0, -1, 7]
    assert ranking.rank(texts(), ranking.semantic_parts(texts(), cosines[:0]), np.zeros(0), 10) == []


def test_a_models_scale_is_laid_on_the_best_chunk_after_rounding() -> None:
    found = texts(*((ref, 0, 0, False) for ref in (1, 2, 2, 3, 4)))
    cosines = np.array([0.835, -0.5, 0.80000004, 0.75, 1.0000001], dtype=np.float32)
    parts = ranking.semantic_parts(found, cosines, Scale(0.75, 0.17))
    assert parts.tolist() == [pytest.approx(0.5), (0.8 - 0.75) / 0.17, 0, 1]


def test_equal_scores_come_newest_stored_first_whatever_is_cut() -> None:
    semantic = np.where(np.arange(1, 1001) % 100 == 0, 0.5, 0.25)
    for count in (1, 5, 10, 50, 1000):
        hits = ranking.rank(alone(1000), semantic, np.zeros(1000), count)
        expected = sorted(range(1, 1001), key=lambda ref: (-(ref % 100 == 0), -ref))[:count]
        assert [hit.ref for hit in hits] == expected
    assert ranking.rank(alone(1000), np.zeros(1000), np.zeros(1000), 10) == [], "what does not fit at all is no hit"


def test_a_thread_lifts_its_hits_but_no_hit_lifts_itself() -> None:
    semantic = np.array([1.0, 0.5, 0.5, 0.2, 0.0, 0.0])
    found = texts(
        (1, 7, 1, False), (2, 0, 2, False), (3, 7, 3, False), (4, -9, 4, False), (5, 8, 5, False), (6, 7, 6, False)
    )
    ranked = ranking.rank(found, semantic, np.zeros(6), 10)
    assert [hit.ref for hit in ranked] == [1, 3, 2, 6, 4], "what is near a hit is one, though it fits nothing itself"
    share = ranking.SEMANTIC_WEIGHT / (ranking.SEMANTIC_WEIGHT + ranking.LEXICAL_WEIGHT)
    assert {hit.ref: hit.thread for hit in ranked} == {
        1: pytest.approx(0.5 * share),
        3: pytest.approx(share),
        6: pytest.approx(share),
        2: 0,
        4: 0,
    }
    assert ranking.rank(found, semantic, np.zeros(6), 1, least=0.3) == ranked[:1]


def test_what_others_of_a_thread_give_is_what_plain_loops_say() -> None:
    source = seeded()
    for _ in range(300):
        count = source.randrange(30)
        base = np.array([source.choice((0, 0.1, 0.3, 0.5, 1)) for _ in range(count)], dtype=np.float64)
        items = [
            noun.Interaction(
                interaction_id=str(ref),
                sequence=ref,
                request_group=source.choice(("", "a", "b", "c")),
                created_at=Timestamp(seconds=source.randrange(10)),
                content=source.choice(("so.", "so?", "so？」 ")),
            )
            for ref in range(1, count + 1)
        ]
        found = texts(
            *(
                (item.sequence, ord(item.request_group or "\0"), item.created_at.seconds, asks(item.content))
                for item in source.sample(items, count)
            )
        )
        expected = around(items, dict(zip(map(str, range(1, count + 1)), base.tolist(), strict=True)))
        parts = (ranking.near_parts(found, base), ranking.thread_parts(found, base), ranking.answer_parts(found, base))
        for place in range(count):
            told = [part[place] for part in parts]
            assert told == pytest.approx(astuple(expected.get(str(place + 1), Around())))


def test_only_pairs_that_are_known_are_near_where_some_of_a_thread_are_missing() -> None:
    found = texts(*((ref, 7, ref, True) for ref in (1, 5, 9, 10)), pairs=(pairs((9, 10)), pairs((5, 9))))
    base = np.array([1.0, 0.5, 0.25, 0.0])
    assert ranking.near_parts(found, base).tolist() == [0, 0.2, 0.4, 0.25]
    assert ranking.answer_parts(found, base).tolist() == [0, 0, 0, 0.25]
    assert ranking.thread_parts(found, base).tolist() == [0.5, 1, 1, 1]


def pairs(*refs: tuple[int, int]) -> np.typing.NDArray[np.int64]:
    return np.array(refs, dtype=np.int64).reshape(-1, 2)


def test_whom_and_when_a_query_names_counts_only_for_what_fits() -> None:
    day = ranking.DAY
    found = alone(6)
    found.rows["role"][:, 0] = [1, 1, 2, 2, 2, 2]
    found.rows["role"][5, 2] = 1
    found.rows["created_at"] = [0, 9 * day, 10 * day, 13 * day, 20 * day, 27 * day]
    named = ranking.Named(np.array([1, 3], dtype=np.int32), np.array([(10 * day, 13 * day), (90 * day, 99 * day)]))
    semantic = np.array([0.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    hits = {hit.ref: hit for hit in ranking.rank(found, semantic, np.zeros(6), 10, named)}
    assert {ref: hit.role for ref, hit in hits.items()} == {2: 1, 3: 0, 4: 0, 5: 0, 6: 1}
    assert {ref: hit.time for ref, hit in hits.items()} == {
        2: pytest.approx(math.exp(-1 / 7), abs=1e-6),
        3: 1,
        4: 1,
        5: pytest.approx(math.exp(-1), abs=1e-6),
        6: pytest.approx(math.exp(-2), abs=1e-6),
    }


def test_scores_are_0_to_1() -> None:
    """Both ends are reached."""
    found = texts((1, 7, 1, True), (2, 7, 2, False))
    found.rows["role"][:, 0] = 5
    everything = ranking.Named(np.array([5], dtype=np.int32), np.array([(0, 10)]))
    best, asking = ranking.rank(found, np.ones(2), np.ones(2), 10, everything)
    assert best.ref == 2
    assert best.score == pytest.approx(1)
    assert asking.score < 1
    low = ranking.rank(texts((1, 0, 1, True)), np.array([0.01]), np.zeros(1), 10)
    assert [hit.score for hit in low] == [0]
