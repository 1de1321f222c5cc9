"""What the models on onnxruntime share: a text is cut into chunks of tokens, and each is run alone."""

from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from reflexio_server.cores import elsewhere
from reflexio_server.index.embedder import Scale

DIMENSIONS = 384
MAX_CHUNKS = 8
_KEPT_QUERIES = 256


class Frame(NamedTuple):
    """The numbers of the tokens that stand before and after a chunk's own, as the model was trained with them."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Encoder:
    """A sentence encoder with 384 dimensions.

    A text becomes 1 to 8 chunks. A text of several chunks is cut into equal parts, so that none is a stray tail. What
    comes after 8 full chunks is not embedded.

    int8 scales a layer's activations over everything it is given, so a chunk's vector would depend on its
    neighbours in a batch. Each chunk is therefore run alone: equal texts have equal vectors.

    `embed` and `embed_query` release the GIL while the model runs. The vectors of the last queries are kept, as agents
    ask the same of many users, and again.
    """

    model_id: str
    dimensions = DIMENSIONS
    scale = Scale()

    def __init__(
        self, tokenizer: Tokenizer, session: Any, text: Frame, query: Frame, most: int, unread: Container[int]
    ) -> None:
        """`most`: tokens that the model takes, a frame's too; `unread`: those that stand for what it does not know."""
        self._tokenizer, self._session = tokenizer, session
        self._text, self._query = text, query
        self._chunk_tokens, self._query_tokens = (most - len(one.before) - len(one.after) for one in (text, query))
        self._unread = unread
        self._query_vector = lru_cache(_KEPT_QUERIES)(self._embed_query)
        # A byte for each token: whether it says a word. A set of 250,000 would take 20 MB.
        tokens = (tokenizer.id_to_token(number) or "" for number in range(tokenizer.get_vocab_size()))
        self._words = bytes(
            number not in unread and any(map(str.isalnum, token)) for number, token in enumerate(tokens)
        )

    def embed(self, text: str) -> NDArray[np.float32]:
        """Return one vector a chunk with a word that the model knows, shape (0 to 8, 384), each of length 1."""
        vectors = [self._run(chunk) for chunk in self._cut(self._tokens(text)) if self._knows(chunk)]
        return np.stack(vectors) if vectors else np.zeros((0, DIMENSIONS), dtype=np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the vector of as many tokens as fit, shape (384,), of length 1; zeros if the model cannot read it.

        It cannot be written to: whoever asks the same next gets it too.
        """
        return self._query_vector(text)

    def _embed_query(self, text: str) -> NDArray[np.float32]:
        chunk = self._tokens(text)[: self._query_tokens]
        reads = self._knows(chunk) and self._understands(text)
        vector = self._run(chunk, self._query) if reads else np.zeros(DIMENSIONS, dtype=np.float32)
        vector.flags.writeable = False
        return vector

    def reads(self, text: str) -> bool:
        """Tell whether every chunk of a text has a word that the model knows."""
        return all(self._knows(chunk) for chunk in self._cut(self._tokens(text)))

    def _tokens(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _understands(self, query: str) -> bool:
        """Whether the model was taught what a query is written in, if it knows its words at all."""
        return True

    def _knows(self, chunk: list[int]) -> bool:
        """Signs alone say something too, such as "?!", but not beside what is unknown: "👍!" and "😡!" are the same."""
        if any(map(self._words.__getitem__, chunk)):
            return True
        return bool(chunk) and not any(number in self._unread for number in chunk)

    def _cut(self, tokens: list[int]) -> list[list[int]]:
        """Cut tokens into 1 to 8 chunks that fit into the model, equal in length to within one."""
        tokens = tokens[: MAX_CHUNKS * self._chunk_tokens]
        count = max(1, -(-len(tokens) // self._chunk_tokens))
        edges = [len(tokens) * i // count for i in range(count + 1)]
        return [tokens[start:end] for start, end in pairwise(edges)]

    def _run(self, chunk: Sequence[int], frame: Frame | None = None) -> NDArray[np.float32]:
        before, after = frame or self._text
        ids = np.array([[*before, *chunk, *after]], dtype=np.int32)
        vector: NDArray[np.float32] = elsewhere(self._session.run, None, {"input_ids": ids})[0][0]
        return vector


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer that gives all tokens of a text, whatever its file says."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # A text that says "[SEP]" means these five characters.
    tokenizer.encode_special_tokens = True
    return tokenizer
