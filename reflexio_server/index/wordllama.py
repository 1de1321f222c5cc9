"""WordLlama: static word vectors, averaged. Light and fast; finds less than MiniLM.

The package `wordllama` is used for its two files only. It is not imported: it would set up the root logger,
and its own loader looks for the tokenizer on a hub, because it searches for a folder of another name.
"""

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reflexio_server.index.embedder import ModelMissing, Scale
from reflexio_server.index.weights import read_weights

_WEIGHTS = "wordllama/weights/l2_supercat_256.safetensors"
_TOKENIZER = "wordllama/tokenizers/l2_supercat_tokenizer_config.json"
_NOT_READ = range(259)  # tokens <unk>, <s>, </s>, and the bytes of characters that are not in the vocabulary
_REINSTALL = "Run: pip install --force-reinstall 'wordllama==0.4.0.post1'"


class WordLlama:
    """WordLlama's l2_supercat (MIT), 256 dimensions: the mean of a text's token vectors.

    A text is always one chunk: a mean of static vectors has no limit of length.
    """

    scale = Scale()

    def __init__(self) -> None:
        """Load the two files that come inside the package `wordllama`.

        Raises:
            ModelMissing: the package is not installed, has not got these files, or they are not what it brought.
        """
        weights, tokenizer = _read(_WEIGHTS), _read(_TOKENIZER)
        # The package may bring other weights under the same name one day: the id follows the bytes.
        digest = hashlib.sha256(weights + tokenizer).hexdigest()[:8]
        self.model_id = f"wordllama/l2_supercat_256/{digest}/1"
        self._vectors: NDArray[np.float16] = read_weights(weights)["embedding.weight"]
        self.dimensions = self._vectors.shape[1]
        self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        # A text that says "</s>" means these four characters.
        self._tokenizer.encode_special_tokens = True
        self._words = {
            number
            for token, number in self._tokenizer.get_vocab().items()
            if number not in _NOT_READ and any(map(str.isalnum, token))
        }

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the one vector of a text of any length, shape (1, 256), of length 1; none if it knows no word."""
        vector = self.embed_query(text)[np.newaxis]
        return vector if vector.any() else vector[:0]

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of a text of any length, shape (256,), of length 1; zeros if it knows no word."""
        ids = self._tokens(text)
        if not self._knows(ids):
            return np.zeros(self.dimensions, dtype=np.float32)
        mean: NDArray[np.float32] = self._vectors[ids].mean(axis=0, dtype=np.float32)
        mean /= np.linalg.norm(mean)
        return mean

    def reads(self, text: str) -> bool:
        return self._knows(self._tokens(text))

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _knows(self, ids: list[int]) -> bool:
        """Signs alone say something too, but not beside what is unknown."""
        return not self._words.isdisjoint(ids) or (bool(ids) and not any(number in _NOT_READ for number in ids))


def _read(name: str) -> bytes:
    """A file of the package, whose hash is the one that was noted when the package was installed."""
    try:
        package = metadata.distribution("wordllama")
    except metadata.PackageNotFoundError:
        raise ModelMissing(
            "The embedder wordllama needs the package of that name. Run: pip install 'reflexio-grpc[server,wordllama]'"
        ) from None
    path = Path(str(package.locate_file(name)))
    if not path.is_file():
        raise ModelMissing(f"wordllama {package.version} has no file {name}. {_REINSTALL}")
    content = path.read_bytes()
    noted = next((file.hash for file in package.files or () if str(file) == name), None)
    if noted and noted.mode == "sha256" and noted.value != _urlsafe(hashlib.sha256(content).digest()):
        raise ModelMissing(f"{path} is not the file that wordllama {package.version} brought. {_REINSTALL}")
    return content


def _urlsafe(digest: bytes) -> str:
    """As hashes stand in a package's list of files."""
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
