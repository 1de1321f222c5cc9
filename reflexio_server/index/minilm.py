"""all-MiniLM-L6-v2 on onnxruntime: cut a text into chunks of tokens, run each one alone."""

import hashlib
import json
import logging
import platform
import sys
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reflexio_server.cores import elsewhere
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.session import open_session
from reflexio_server.words import is_mostly_latin

logger = logging.getLogger(__name__)

Precision = Literal["int8", "fp32"]

# Part of model_id. Raise it whenever the weights, their quantization or the chunking change: old vectors are then known
# for what they are.
VERSION = 1
# Of the files, in the manifest. Raise it whenever the graph changes. In int8 another order of the same sums rounds in
# another way: 1 - cosine is 0.0006 in the mean and 0.01 at most between builds 1 and 2, and 0.0007 and 0.01 between
# onnxruntime 1.22 and 1.32 on build 1. So much is one model; what moves vectors further is a new VERSION.
BUILD = 2
_OLDEST_BUILD = 1  # runs too

DIMENSIONS = 384
MAX_CHUNKS = 8
# The model was trained on at most 256 tokens (max_seq_length in its sentence_bert_config.json).
MAX_TOKENS = 256
CHUNK_TOKENS = MAX_TOKENS - 2  # [CLS] and [SEP] take two
_UNKNOWN, _CLS, _SEP = 100, 101, 102  # in tokenizer.json
_KEPT_QUERIES = 256

TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"
MODEL_FILES: dict[Precision, str] = {"int8": "minilm-int8.onnx", "fp32": "minilm-fp32.onnx"}
INSTALLED_FILES = (*MODEL_FILES.values(), TOKENIZER_FILE)

# Instructions that multiply and add four int8 pairs at once, as /proc/cpuinfo calls them on x86 and arm64.
_INT8_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "asimddp"}


class MiniLM:
    """all-MiniLM-L6-v2 (Apache-2.0), 384 dimensions.

    A text becomes 1 to 8 chunks of at most 254 tokens (about 1,000 characters of English). A text of several
    chunks is cut into equal parts, so that none is a stray tail. What comes after 8 × 254 tokens is not
    embedded.

    int8 scales a layer's activations over everything it is given, so a chunk's vector would depend on its
    neighbours in a batch. Each chunk is therefore run alone: equal texts have equal vectors.

    `embed` and `embed_query` release the GIL while the model runs. The vectors of the last queries are kept, as agents
    ask the same of many users, and again.
    """

    def __init__(self, model_dir: Path, precision: Precision) -> None:
        """Load the files that `install_model` put into `model_dir`.

        Raises:
            ModelMissing: a file is absent, is not what was installed, is of another version, or cannot be loaded.
            OSError: a file may not be read.
        """
        network = MODEL_FILES[precision]
        fault = find_fault(model_dir, hashed=(network, TOKENIZER_FILE), oldest=_OLDEST_BUILD)
        if fault:
            raise ModelMissing(_unusable(fault, model_dir))
        if older := find_fault(model_dir, hashed=()):
            logger.warning("The embedding model could be faster: %s", _remedy(older, model_dir))
        self.model_id = f"all-MiniLM-L6-v2/{precision}/{VERSION}"
        self.dimensions = DIMENSIONS
        try:
            self._tokenizer = _load_tokenizer(model_dir / TOKENIZER_FILE)
            self._session = open_session(str(model_dir / network))
        except Exception as error:  # neither library has a class of its own for a file that it cannot read
            logger.debug("the model in %s cannot be loaded", model_dir, exc_info=error)
            raise ModelMissing(_unusable(f"{model_dir} holds files that cannot be loaded", model_dir)) from None
        self._query_vector = lru_cache(_KEPT_QUERIES)(self._embed_query)
        self._words = {
            number
            for token, number in self._tokenizer.get_vocab().items()
            if number != _UNKNOWN and any(map(str.isalnum, token))
        }

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return one vector a chunk with a word that the model knows, shape (0 to 8, 384), each of length 1."""
        vectors = [self._run(chunk) for chunk in _cut(self._tokens(text)) if self._knows(chunk)]
        return np.stack(vectors) if vectors else np.zeros((0, DIMENSIONS), dtype=np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of the first 254 tokens, shape (384,), of length 1; zeros if the model cannot read it.

        It knows English: of what is mostly in other scripts it knows letters, and compares how texts are written. Then
        meaning counts nothing: on XQuAD-R it did harm to Russian, Arabic, Hindi, Chinese and Thai.

        It cannot be written to: whoever asks the same next gets it too.
        """
        return self._query_vector(text)

    def _embed_query(self, text: str) -> NDArray[np.float32]:
        chunk = self._tokens(text)[:CHUNK_TOKENS]
        reads = self._knows(chunk) and is_mostly_latin(text)
        vector = self._run(chunk) if reads else np.zeros(DIMENSIONS, dtype=np.float32)
        vector.flags.writeable = False
        return vector

    def reads(self, text: str) -> bool:
        """Tell whether every chunk of a text has a word that the model knows."""
        return all(self._knows(chunk) for chunk in _cut(self._tokens(text)))

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _knows(self, chunk: list[int]) -> bool:
        """Signs alone say something too, such as "?!", but not beside what is unknown: "👍!" and "😡!" are the same."""
        return not self._words.isdisjoint(chunk) or (bool(chunk) and _UNKNOWN not in chunk)

    def _run(self, chunk: list[int]) -> NDArray[np.float32]:
        ids = np.array([[_CLS, *chunk, _SEP]], dtype=np.int32)
        vector: NDArray[np.float32] = elsewhere(self._session.run, None, {"input_ids": ids})[0][0]
        return vector


def best_precision() -> Precision:
    """Return the faster precision for this processor: int8 where it has an int8 dot product, else fp32.

    With it, int8 runs about three times as fast as fp32; without, it may be slower, and on x86 less exact too
    (sums of two products saturate at 16 bits).
    """
    if sys.platform == "darwin":
        # Every Apple processor that runs macOS on arm64 has the instruction; Intel Macs do not say, so fp32.
        return "int8" if platform.machine() == "arm64" else "fp32"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and has_int8_dot_product(cpuinfo.read_text(encoding="utf-8", errors="replace")):
        return "int8"
    return "fp32"


def has_int8_dot_product(cpuinfo: str) -> bool:
    """Tell from the text of /proc/cpuinfo whether the first processor has an int8 dot product.

    It is called VNNI on x86 (flags avx512_vnni, avx_vnni) and dot product on arm64 (asimddp).
    """
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not _INT8_DOT_PRODUCT.isdisjoint(value.split())
    return False


def find_fault(model_dir: Path, *, hashed: Collection[str] = INSTALLED_FILES, oldest: int = BUILD) -> str | None:
    """Compare the files in `model_dir` with the manifest written beside them by `install_model`.

    Args:
        model_dir: the folder of the installed model.
        hashed: the files to read whole, for their SHA-256 (all: 113 MB, about a fifth of a second); of the others only
            the size is compared.
        oldest: the files may be of this build, or of a newer one up to `BUILD`.

    Returns:
        What is wrong, as a clause for an error message, or None if all is well.

    Raises:
        OSError: a file may not be read.
    """
    manifest_path = model_dir / MANIFEST_FILE
    if not manifest_path.is_file():
        return f"it is not installed in {model_dir} (there is no {MANIFEST_FILE})"
    try:
        manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
        version, files = manifest["version"], manifest["files"]
        expected = {name: (files[name]["size"], files[name]["sha256"]) for name in INSTALLED_FILES}
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"{manifest_path} is damaged"
    if version not in range(oldest, BUILD + 1):
        return f"{model_dir} holds build {version!r} of the model files, and this server's is {BUILD}"
    for name, (size, sha256) in expected.items():
        path = model_dir / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != size:
            return f"{path} has {path.stat().st_size} bytes instead of {size}"
        if name in hashed and hash_file(path) != sha256:
            return f"{path} is not the file that was installed: its SHA-256 is another"
    return None


def _unusable(fault: str, model_dir: Path) -> str:
    return f"The embedding model cannot be used: {_remedy(fault, model_dir)}"


def _remedy(fault: str, model_dir: Path) -> str:
    return f"{fault}. Run: reflexio-server model install --model-dir {model_dir}"


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    # The file says: cut at 128 tokens, pad to 128.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A text that says "[SEP]" means these five characters.
    tokenizer.encode_special_tokens = True
    return tokenizer


def _cut(tokens: list[int]) -> list[list[int]]:
    """Cut tokens into 1 to 8 chunks of at most 254, equal in length to within one."""
    tokens = tokens[: MAX_CHUNKS * CHUNK_TOKENS]
    count = max(1, -(-len(tokens) // CHUNK_TOKENS))
    edges = [len(tokens) * i // count for i in range(count + 1)]
    return [tokens[start:end] for start, end in pairwise(edges)]
