"""Reads the lines of a picture, with the recognizer of PP-OCRv6 (tiny), and puts them in the order of reading."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reflexio_server.index.ocr_lines import Box

HEIGHT = 48  # pixels of a line, as the network takes them
_WIDEST = 4096  # pixels; what is longer is squeezed
_NARROWEST = 16
_CERTAIN = 0.5  # in the mean over a line's characters
_LETTERS = 3
_HEXADECIMAL = set("abcdefABCDEF")
_SAME_ROW = 0.5  # of the lower one's height, between the middles of two pieces


class Characters:
    """The recognizer and its alphabet, which its file holds: Latin with accents, Han, digits and signs."""

    def __init__(self, session: Any) -> None:
        """`session`: takes float32 (1, 3, 48, width), gives (1, steps, 1 + alphabet): how likely each one stands there.

        Raises KeyError where the file has no alphabet.
        """
        self._session = session
        listed = session.get_modelmeta().custom_metadata_map["character"].split("\n")
        self._alphabet = ["", *listed, " "]  # first what stands between two characters

    def read(self, image: Image.Image, box: Box) -> str:
        """A line's text; empty where the network is not certain of it."""
        left, top, right, bottom = box
        width = round(HEIGHT * (right - left) / (bottom - top))
        size = (min(_WIDEST, max(_NARROWEST, width)), HEIGHT)
        line = image.resize(size, Image.Resampling.BILINEAR, box=box)
        given = np.asarray(line, np.float32)[:, :, ::-1].transpose(2, 0, 1)[None] / np.float32(127.5) - np.float32(1)
        return self._decoded(self._session.run(None, {"x": np.ascontiguousarray(given)})[0][0])

    def _decoded(self, likely: NDArray[np.float32]) -> str:
        """The likeliest at each step, what is repeated once: Graves et al. 2006, section 3.2, "best path decoding"."""
        best = likely.argmax(axis=1)
        new = (best != 0) & (best != np.pad(best, (1, 0), constant_values=-1)[:-1])
        if not new.any() or likely.max(axis=1)[new].mean() <= _CERTAIN:
            return ""
        return mended("".join(self._alphabet[one] for one in best[new]).strip())


def mended(text: str) -> str:
    """With O where a zero stands in a word, and zero where an O stands in a number.

    In many fonts both look alike, and names and codes of errors are what is searched for.
    """
    text = re.sub(r"(?<=\d)O(?=\d)|\bO(?=x[0-9A-Fa-f]*\d[0-9A-Fa-f]*\b)", "0", text)
    return re.sub(r"[A-Za-z0]+", _mended_word, text)


def _mended_word(word: re.Match[str]) -> str:
    """Zeros at the end may number it, and beside hexadecimal digits, or few letters, they may be meant."""
    letters = word[0].replace("0", "")
    number = word.string[: word.start()][-1:].isdigit() or word.string[word.end() :][:1].isdigit()
    if number or len(letters) < _LETTERS or not set(letters) - _HEXADECIMAL or re.match("0[xXbo]", word[0]):
        return word[0]
    within = "o" if letters.islower() else "O"
    return re.sub("0(?=[A-Za-z])", lambda zero: within if zero.start() else "O", word[0])


def in_order(pieces: list[tuple[Box, str]]) -> str:
    """The text of the pieces as people read it: from top to bottom, and from left to right in a row."""
    rows: list[list[tuple[Box, str]]] = []
    for piece in sorted(pieces, key=lambda piece: piece[0].top + piece[0].bottom):
        if rows and _same_row(rows[-1][-1][0], piece[0]):
            rows[-1].append(piece)
        else:
            rows.append([piece])
    return "\n".join(" ".join(text for _, text in sorted(row)) for row in rows)


def _same_row(one: Box, other: Box) -> bool:
    apart = abs((one.top + one.bottom) - (other.top + other.bottom)) / 2
    return apart < _SAME_ROW * min(one.bottom - one.top, other.bottom - other.top)
