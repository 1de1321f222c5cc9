"""What turns a text into vectors: the interface."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ModelMissing(RuntimeError):
    """A model's files are absent, incomplete or of another version.

    The message says which, and the command that mends it.
    """


@dataclass(frozen=True, slots=True)
class Scale:
    """What a model's cosines mean: up to `least` nothing in common, from `least + span` on the same.

    By default the cosine itself is how near two texts are in meaning, and below 0 it is nothing.
    """

    least: float = 0.0
    span: float = 1.0

    def parts(self, cosines: NDArray[np.float64]) -> NDArray[np.float64]:
        """How near each is, as a part of 0 to 1."""
        return ((cosines - self.least) / self.span).clip(0.0, 1.0)


class Embedder(Protocol):
    """A loaded embedding model. Its methods may be called from any number of threads at once.

    Attributes:
        model_id: names the exact model, its number format and the version of how this project runs it, e.g.
            "all-MiniLM-L6-v2/int8/1". Stored beside each vector: vectors of different ids must never be
            compared.
        dimensions: length of a vector.
        scale: how the cosine of a query's vector with a text's becomes a part of 0 to 1.
    """

    model_id: str
    dimensions: int
    scale: Scale

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return the vectors of a stored text, shape (chunks, dimensions): 0 to 8 rows, each of length 1.

        How a long text is cut into chunks, and how much of it counts, is told by the implementation. A chunk without
        any word that the model knows has no vector: it would be the same for all such chunks, and they do not mean
        the same.
        """
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the one vector of a search text, shape (dimensions,), of length 1.

        Zeros when there is no word in it that the model knows: near to nothing.
        """
        ...

    def reads(self, text: str) -> bool:
        """Tell whether every chunk of a text has a vector, without making them."""
        ...
