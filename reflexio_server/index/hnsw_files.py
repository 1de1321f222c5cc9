"""The files of Chroma's HNSW indexes, a folder for each: what a kill leaves of them, and what they may not hold.

The format is that of hnswlib as Chroma keeps it, version 1: `persistDirty` and `readPersistedIndexFromStreams` in
https://github.com/chroma-core/hnswlib/blob/master/hnswlib/hnswalg.h. All of it is little-endian.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_VERSION = 1
# version, offset of the links, room, elements, bytes of an element, offsets of label and vector, highest level, where
# a search begins, most links of an element above level 0, at level 0 and asked for, then what is for building only.
_HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
_ELEMENTS_AT_ONCE = 50_000


@dataclass(frozen=True, slots=True)
class _Header:
    elements: int
    element_bytes: int
    highest_level: int
    first: int
    """The element where a search begins."""
    most_links: int
    most_links_at_0: int

    @classmethod
    def read(cls, index: Path) -> "_Header | None":
        """None when it is not there, cut, or of another version."""
        try:
            version, _, _, elements, size, _, _, highest, first, links, links_at_0, *_ = _HEADER.unpack(
                (index / "header.bin").read_bytes()
            )
        except (OSError, struct.error):
            return None
        return cls(elements, size, highest, first, links, links_at_0) if version == _VERSION else None

    @property
    def level_bytes(self) -> int:
        """What an element's links take at one level above 0: their number, and the elements they lead to."""
        return 4 + 4 * self.most_links


def empty_unread(folder: Path) -> None:
    """Cut the files of indexes that hold nothing yet to no bytes.

    A new index writes the room for its first 100 elements as malloc gave it, full of what the process freed before:
    texts that are erased since, keys. That is only read once elements were written to it, at the first 1,000 of a
    collection and then with all of them; until then it is written anew whenever a collection is first used.
    """
    for index in indexes(folder):
        # Nearly all are empty already or in use: one look at a file tells the first.
        if _size(index / "length.bin") and (header := _Header.read(index)) and header.elements == 0:
            with contextlib.suppress(OSError):
                os.truncate(index / "data_level0.bin", 0)
                os.truncate(index / "length.bin", 0)


def problem(folder: Path) -> str | None:
    """What is cut short or does not fit together; None when nothing is.

    Chroma writes header, elements and links one after the other, over those from before. After a kill in between, or
    when two processes wrote, the header promises more than the others hold. Chroma loads that without a word, with
    memory as it was in place of what is missing; the next time it writes it crashes, or makes a file of 55 GB.
    """
    for index in indexes(folder):
        if (index / "index_metadata.pickle").exists():  # else Chroma reads none of them
            header = _Header.read(index)
            if header is None:
                return f"{index.name}/header.bin is damaged"
            for name, size in (("data_level0.bin", header.element_bytes), ("length.bin", 4)):
                if _size(index / name) < header.elements * size:
                    return f"{index.name}/{name} is cut short"
            if not (_links_at_0_lead_somewhere(index, header) and _links_above_lead_somewhere(index, header)):
                return f"{index.name} has links that lead nowhere"
    return None


def _links_at_0_lead_somewhere(index: Path, header: _Header) -> bool:
    """Each element begins with the number of its links at level 0 and the elements that they lead to."""
    if not header.elements:
        return True
    shape = header.elements, header.element_bytes
    whole = np.memmap(index / "data_level0.bin", np.uint8, "r", shape=shape)
    for start in range(0, header.elements, _ELEMENTS_AT_ONCE):
        part = whole[start : start + _ELEMENTS_AT_ONCE, : 4 + 4 * header.most_links_at_0]
        links = np.ascontiguousarray(part).view("<u4")
        numbers = links[:, :1] & 0xFFFF
        used = np.arange(header.most_links_at_0) < numbers
        if numbers.max() > header.most_links_at_0 or (links[:, 1:][used] >= header.elements).any():
            return False
    return True


def _links_above_lead_somewhere(index: Path, header: _Header) -> bool:
    """Of each element in turn, the bytes of its links at all levels above 0, then number and links of each level."""
    path = index / "link_lists.bin"
    if _size(path) > header.elements * (4 + header.highest_level * header.level_bytes):
        return False
    try:
        content = path.read_bytes()
    except OSError:
        return False
    levels = np.zeros(header.elements, dtype=np.int32)
    lists: list[tuple[int, int]] = []  # where one begins, its level
    at = 0
    for element in range(header.elements):
        size = int.from_bytes(content[at : at + 4], "little")
        levels[element], rest = divmod(size, header.level_bytes)
        if at + 4 + size > len(content) or rest:
            return False
        at += 4
        lists += ((at + level * header.level_bytes, level + 1) for level in range(levels[element]))
        at += size
    for begin, level in lists:
        links = np.frombuffer(content, "<u4", header.most_links + 1, begin)
        number, leads_to = links[0] & 0xFFFF, links[1:]
        if number > header.most_links or not _all_reach(levels, leads_to[:number], level):
            return False
    return not header.elements or _all_reach(levels, np.array([header.first]), header.highest_level)


def _all_reach(levels: NDArray[np.int32], elements: NDArray[np.uint32], level: int) -> bool:
    return bool((elements < len(levels)).all() and (levels[elements] >= level).all())


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def indexes(folder: Path) -> Iterator[Path]:
    """The folders of the indexes in a folder of Chroma's."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield Path(entry.path)
