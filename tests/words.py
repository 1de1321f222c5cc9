"""A quick embedder for tests in this process, where the model does not matter."""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from reflexio_server import backstage
from reflexio_server.index.embedder import Embedder, Scale


class Words:
    """A quick embedder: the mean of a random vector a word. Texts that contain `refused` cannot be embedded."""

    scale = Scale()

    def __init__(self, model_id: str = "words/1", dimensions: int = 32, refused: str = "") -> None:
        self.model_id, self.dimensions, self.refused = model_id, dimensions, refused
        self.embedded: list[str] = []

    def embed(self, text: str) -> NDArray[np.float32]:
        if self.refused and self.refused in text:
            raise RuntimeError("this text cannot be embedded")
        self.embedded.append(text)
        return self.embed_query(text)[np.newaxis]

    def embed_query(self, text: str) -> NDArray[np.float32]:
        words = [self._word(word) for word in text.lower().split()] or [self._word("")]
        mean: NDArray[np.float32] = np.mean(words, axis=0, dtype=np.float32)
        return mean / np.float32(np.linalg.norm(mean))

    def reads(self, text: str) -> bool:
        return True

    def _word(self, word: str) -> NDArray[np.float32]:
        seed = hashlib.sha256(f"{self.model_id} {word}".encode()).digest()[:8]
        return np.random.default_rng(int.from_bytes(seed)).normal(size=self.dimensions).astype(np.float32)


def use(monkeypatch: pytest.MonkeyPatch, chosen: Embedder) -> None:
    """Have servers started in this process from now on embed with this."""
    monkeypatch.setattr(backstage, "load_embedder", lambda _name, _folder: chosen)
