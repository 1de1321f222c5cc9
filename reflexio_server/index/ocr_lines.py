"""Finds where lines of text stand in a picture, with the detector of PP-OCRv6 (tiny).

The network gives for every pixel how likely it is text; connected pixels are a line, as differentiable binarization
has it (Liao et al., https://arxiv.org/abs/1911.08947, sections 3.1 and 3.4). Lines are taken as upright rectangles:
text in screenshots is.
"""

import math
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LONGEST_SIDE = 1280  # pixels that the network is given; its time grows with their number
MAX_LINES = 1_000
_LONG = 2.5  # times as long as it is wide, or the other way: a picture that is cut
_LONG_PART = 1.5
_MOST_PARTS = 12
# Shown on either side of a part, as a share of the shorter side: half of the highest line, and of the longest one, that
# is whole in a part.
_MARGIN_DOWN, _MARGIN_ACROSS = 1 / 16, 2 / 5
_STEP = 32  # the network halves a picture five times
# The mean and the deviation of ImageNet's red, green and blue pixels. The network was trained with them in this order,
# though with pixels in the order blue, green, red.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
_DEVIATION = np.array([0.229, 0.224, 0.225], np.float32) * 255
_LIKELY = 0.2  # of a pixel
_LIKELY_LINE = 0.4  # in the mean over its pixels
_GROWTH = 1.4  # the network was trained with lines shrunk by area · (1 - 0.4²) / perimeter
_SHORTEST = 3  # pixels of a side


class Box(NamedTuple):
    """A rectangle of a picture, in its pixels; right and bottom are outside."""

    left: float
    top: float
    right: float
    bottom: float


class Part(NamedTuple):
    """A part of a picture: what the network is shown, whole pixels, and in that what is the part's own."""

    seen: tuple[int, int, int, int]
    own: Box

    def has_middle_of(self, box: Box) -> bool:
        x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        return self.own.left <= x <= self.own.right and self.own.top <= y <= self.own.bottom


def find_lines(session: Any, image: Image.Image) -> list[Box]:
    """Where the lines of text stand in a picture of mode "RGB", at most `MAX_LINES`, the largest first.

    `session`: the detector; takes float32 (1, 3, height, width), gives as much (1, 1, height, width) from 0 to 1.
    """
    boxes = [box for part in _cut(image.size) for box in _find(session, image, part)]
    boxes.sort(key=lambda box: (box.right - box.left) * (box.bottom - box.top), reverse=True)
    return boxes[:MAX_LINES]


def _cut(size: tuple[int, int]) -> list[Part]:
    """The whole of a picture, or equal parts of a long one: a web page from top to bottom, two screens side by side.

    Shrunk as a whole its text would be too small.
    """
    width, height = size
    longest, shortest = max(size), min(size)
    count = 1
    if longest > max(LONGEST_SIDE, _LONG * shortest):
        count = min(_MOST_PARTS, math.ceil(longest / (_LONG_PART * shortest)))
    margin = math.ceil((_MARGIN_DOWN if height > width else _MARGIN_ACROSS) * shortest)
    parts = []
    for start, end in pairwise(longest * n // count for n in range(count + 1)):
        first, last = max(0, start - margin), min(longest, end + margin)
        parts.append(
            Part((0, first, width, last), Box(0, start, width, end))
            if height > width
            else Part((first, 0, last, height), Box(start, 0, end, height))
        )
    return parts


def _find(session: Any, image: Image.Image, part: Part) -> list[Box]:
    """The lines of which the middle is in this part."""
    seen = part.seen
    shrunk = image.resize(_size((seen[2] - seen[0], seen[3] - seen[1])), Image.Resampling.BILINEAR, box=seen)
    pixels = np.asarray(shrunk, np.float32)[:, :, ::-1]
    given = np.ascontiguousarray(((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])
    likely: NDArray[np.float32] = session.run(None, {"x": given})[0][0, 0]
    across, down = (seen[2] - seen[0]) / shrunk.width, (seen[3] - seen[1]) / shrunk.height
    boxes = []
    for left, top, right, bottom in _blots(likely):
        width, height = right - left, bottom - top
        grown = _GROWTH * width * height / (2 * (width + height))
        box = Box(
            max(0.0, seen[0] + (left - grown) * across),
            max(0.0, seen[1] + (top - grown) * down),
            min(image.width, seen[0] + (right + grown) * across),
            min(image.height, seen[1] + (bottom + grown) * down),
        )
        if min(width, height) >= _SHORTEST and part.has_middle_of(box):
            boxes.append(box)
    return boxes


def _size(size: tuple[int, int]) -> tuple[int, int]:
    """Multiples of 32 near to a size of at most `LONGEST_SIDE`; what is small stays so."""
    scale = min(1.0, LONGEST_SIDE / max(size))
    width, height = (max(_STEP, round(side * scale / _STEP) * _STEP) for side in size)
    return width, height


def _blots(likely: NDArray[np.float32]) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of all connected pixels, diagonals included, that are likely text as a whole."""
    height, width = likely.shape
    # Runs: where a row changes from unlikely to likely and back.
    edges = np.diff(np.pad((likely > _LIKELY).astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    sums = np.pad(likely.cumsum(axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    weights = sums[rows, ends] - sums[rows, starts]
    blot = _connected(np.searchsorted(rows, np.arange(height + 1)).tolist(), starts.tolist(), ends.tolist())
    names, number = np.unique(np.array(blot, np.int64), return_inverse=True)
    if not len(names):
        return []
    box = np.empty((len(names), 4), np.int64)
    box[:] = width, height, 0, 0
    np.minimum.at(box[:, 0], number, starts)
    np.minimum.at(box[:, 1], number, rows)
    np.maximum.at(box[:, 2], number, ends)
    np.maximum.at(box[:, 3], number, rows + 1)
    likelihood = np.bincount(number, weights) / np.bincount(number, ends - starts)
    return [(left, top, right, bottom) for left, top, right, bottom in box[likelihood >= _LIKELY_LINE].tolist()]


def _connected(firsts: list[int], starts: list[int], ends: list[int]) -> list[int]:
    """For each run the number of a run that stands for its blot; `firsts`: each row's first run, and their count."""
    parent = list(range(len(starts)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    for (above, here), (_, below) in pairwise(pairwise(firsts)):
        upper, lower = above, here
        while upper < here and lower < below:
            if starts[upper] <= ends[lower] and starts[lower] <= ends[upper]:
                parent[root(lower)] = root(upper)
            if ends[upper] < ends[lower]:
                upper += 1
            else:
                lower += 1
    return [root(run) for run in range(len(starts))]
