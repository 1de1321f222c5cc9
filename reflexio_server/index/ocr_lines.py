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
LONGEST_PART = 2560  # pixels of a picture that are shrunk to these; of a larger one parts are: more finds no small text
MAX_LINES = 1_000
_MOST_PARTS = 12  # of a side
_MARGIN = 60  # pixels: half of what two parts share
_SAME_LINE = 0.5  # of the lower one's height, which two pieces of a line share
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


def find_lines(session: Any, image: Image.Image) -> list[Box]:
    """Where the lines of text stand in a picture of mode "RGB", at most `MAX_LINES`, the largest first.

    `session`: the detector; takes float32 (1, 3, height, width), gives as much (1, 1, height, width) from 0 to 1.
    """
    boxes: list[Box] = []
    for part in _cut(image.size):
        boxes = _joined(boxes, _find(session, image, part), part)
    boxes.sort(key=lambda box: (box.right - box.left) * (box.bottom - box.top), reverse=True)
    return boxes[:MAX_LINES]


def _cut(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The whole of a picture, or the parts of a large one, in rows: a web page, two screens side by side.

    Shrunk as a whole its text would be too small. The parts overlap a little.
    """
    columns, rows = (_spans(side) for side in size)
    return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]


def _spans(side: int) -> list[tuple[int, int]]:
    count = min(_MOST_PARTS, math.ceil(side / LONGEST_PART))
    edges = (side * number // count for number in range(count + 1))
    return [(max(0, start - _MARGIN), min(side, end + _MARGIN)) for start, end in pairwise(edges)]


def _joined(before: list[Box], found: list[Box], part: tuple[int, int, int, int]) -> list[Box]:
    """The lines of the parts before and of this one, in which some of them go on, or are found again."""
    stay = [box for box in before if box.right <= part[0] or box.bottom <= part[1]]
    reach = [box for box in before if box.right > part[0] and box.bottom > part[1]]
    for box in found:
        same = [other for other in reach if _overlap(box, other)]
        reach = [other for other in reach if other not in same]
        lefts, tops, rights, bottoms = zip(box, *same, strict=True)
        stay.append(Box(min(lefts), min(tops), max(rights), max(bottoms)))
    return stay + reach


def _overlap(one: Box, other: Box) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return across > 0 and down > _SAME_LINE * min(one.bottom - one.top, other.bottom - other.top)


def _find(session: Any, image: Image.Image, part: tuple[int, int, int, int]) -> list[Box]:
    """The lines in a part of a picture: left, top, right and bottom."""
    start_x, start_y, end_x, end_y = part
    shrunk = image.resize(_size((end_x - start_x, end_y - start_y)), Image.Resampling.BILINEAR, box=part)
    pixels = np.asarray(shrunk, np.float32)[:, :, ::-1]
    given = np.ascontiguousarray(((pixels - _MEAN) / _DEVIATION).transpose(2, 0, 1)[None])
    likely: NDArray[np.float32] = session.run(None, {"x": given})[0][0, 0]
    across, down = (end_x - start_x) / shrunk.width, (end_y - start_y) / shrunk.height
    boxes = []
    for left, top, right, bottom in _blots(likely):
        width, height = right - left, bottom - top
        grown = _GROWTH * width * height / (2 * (width + height))
        if min(width, height) >= _SHORTEST:
            boxes.append(
                Box(
                    max(0.0, start_x + (left - grown) * across),
                    max(0.0, start_y + (top - grown) * down),
                    min(image.width, start_x + (right + grown) * across),
                    min(image.height, start_y + (bottom + grown) * down),
                )
            )
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
