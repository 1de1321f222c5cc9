"""What finds the nearest vectors of an account: the interface that core speaks to, whatever engine is behind it.

An index holds collections of vectors, each under its stamp, and can be lost: all that is in it is in SQL too. Whatever
one of its methods raises, a BaseException included, means that it is damaged, unless it is Late, Stopped, Unavailable
or something was short; it is closed then, and opened or begun anew.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

BATCH = 100  # vectors; a query waits for an upsert of Chroma's, of which 100 take 30 ms and more
SAMPLES = 50  # of a collection's vectors are searched for when it is checked

Stamps = NDArray[np.int64]
Matrix = NDArray[np.float32]
Prints = NDArray[np.float32]

_NEAREST, _MANY = 5, 1000  # what is not among the first few may be among many
_SAME = 1 - 1e-4  # a cosine of equal vectors
_MOST_UNFOUND = 0.05
_VECTORS_AT_ONCE = 1000


class Unavailable(Exception):
    """The index cannot be asked now, as something passing is short or away; the text says what. It may be sound."""


class Damaged(Exception):
    """The index does not hold what it must; the text says what is wrong."""


class Late(Exception):
    """The answer to a query did not come in time; nothing is known to be wrong."""


class Stopped(Exception):
    """What the index was to do was broken off, as the server is stopping."""


class Live(Protocol):
    """A collection that searches ask: its name, the number of the index it is in, and the last stamp put in."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> int: ...
    @property
    def applied(self) -> int: ...


class Readable(Protocol):
    """A collection's content."""

    def query(self, name: str, vector: Matrix, count: int, user: int | None = None) -> tuple[list[int], Matrix]:
        """The nearest vectors' stamps and cosines, nearest first; `user` narrows it to one user's."""
        ...

    def stamps(self, name: str) -> Stamps:
        """Every stamp in the collection, in order."""
        ...

    def vectors(self, name: str, stamps: Sequence[int]) -> Matrix:
        """The vectors under these stamps, in their order (n × dimensions). Slow: 10,000 take 0.3 s."""
        ...


class Index(Readable, Protocol):
    """An open index. It is written by one thread, and asked by any.

    `number` tells it from those before it; `dropped` names collections that must not be asked any more.
    """

    number: int
    dropped: set[str]

    def query(
        self, name: str, vector: Matrix, count: int, user: int | None = None, timeout: float | None = None
    ) -> tuple[list[int], Matrix]:
        """The same; raises Late after `timeout` seconds, by default the engine's `query_seconds`."""
        ...

    def upsert(self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: Matrix, new: bool = True) -> None:
        """Put vectors (n × dimensions) under their stamps, at most BATCH; those already there are replaced.

        `new`: the collection is made if it is not there.
        """
        ...

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        """Take vectors out of a collection, at most BATCH."""
        ...

    def names(self) -> list[str]: ...

    def drop(self, names: set[str]) -> None:
        """Delete collections that are not live any more; they must not be asked again."""
        ...

    def tend(self, truth: "Truth") -> None:
        """Do what is to be done every few seconds: see whether the index is still what was left, as far as others can
        change it, and have no file hold what the engine wrote of the process's memory."""
        ...

    def close(self) -> None:
        """Close it, also after it failed, and give back its memory and files."""
        ...

    def note_closed(self, applied: Mapping[str, int]) -> None:
        """Note how far the closed index's collections are, so that the next start need not check them."""
        ...


@dataclass(frozen=True, slots=True)
class Expected:
    """What a collection must hold: of `stamps`, in order, all up to `applied`; it may hold the others and the `erased`.

    `prints` are fingerprints of the vectors up to `applied`, in their order; `samples` some of these vectors, which
    must be found by themselves.
    """

    name: str
    applied: int
    stamps: Stamps
    erased: Stamps
    prints: Prints
    samples: dict[int, Matrix]

    @property
    def needed(self) -> Stamps:
        """The stamps that must be there."""
        return self.stamps[: np.searchsorted(self.stamps, self.applied, "right")]


@dataclass(frozen=True, slots=True)
class Outline:
    """What tells quickly whether a collection is the one that was left.

    `count`: how many vectors it holds, those included that are to leave it; `samples`: the newest of them and a random
    few, by their stamps; `whole`: all that it must hold, without `prints`.
    """

    name: str
    count: int
    samples: dict[int, Matrix]
    whole: Callable[[], Expected]


class Truth(Protocol):
    """What SQL says that the index must hold. Every method raises what the database does."""

    def live(self) -> Sequence[Live]:
        """The collections that searches ask."""
        ...

    def expected(self) -> list[Expected]:
        """What each of them must hold; as much is read as there are vectors."""
        ...

    def outlines(self, names: Container[str]) -> Iterator[Outline]:
        """What is quickly told of those of them that have these names."""
        ...


class Engine(Protocol):
    """Where indexes are kept; at most one is open.

    `query_seconds`: how long a search waits for it at most; `longest_pause`: seconds between tries while it fails.
    """

    query_seconds: float
    longest_pause: float

    def open(self, live: Sequence[Live], truth: Truth, stopping: Callable[[], bool]) -> Index | None:
        """The index as it was left, checked unless it was closed in order; None where there never was one.

        Raises Damaged when it is not what it must be, Unavailable when that cannot be told now, Stopped when
        `stopping` says so; and whatever a damaged one raises.
        """
        ...

    def begin(self, last: int, stopping: Callable[[], bool]) -> Index:
        """A new index, with a higher number than `last`, which may be that of one that is gone."""
        ...

    def reading(self, number: int) -> Index | None:
        """The index with this number for asking only, of which another process takes care; nothing is asked yet.

        None: only who takes care of it can ask it. Raises Unavailable.
        """
        ...

    def set_aside(self) -> None:
        """Set the damaged index aside; only the latest such is kept, for a look at it."""
        ...

    def drop_set_aside(self) -> None:
        """Delete what was set aside: something in it was erased."""
        ...

    def have_checked(self) -> None:
        """Let the next `open` check the index: the database is another one."""
        ...


def fingerprints(matrix: Matrix) -> Prints:
    """A number a vector (n × dimensions), of which damage to any of its values changes the third decimal."""
    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), matrix.shape[1])
    prints: Prints = matrix @ signs
    return prints


def differences(index: Readable, expected: Expected) -> tuple[Stamps, Stamps]:
    """The stamps that the collection lacks, and those it has too many.

    What was put in after `applied` was noted is put in again, so there may be more. What is in no table comes from
    before a backup was restored, say, and would stand in the way of what is there.
    """
    present = index.stamps(expected.name)
    known = np.append(expected.stamps, expected.erased)
    return np.setdiff1d(expected.needed, present), np.setdiff1d(present, known)


def problem(index: Readable, expected: Expected) -> str | None:
    """What is wrong with a collection; None when it holds what it must."""
    name, needed = expected.name, expected.needed
    if any(map(len, differences(index, expected))):
        return f"{name} does not hold the vectors it must"
    for start in range(0, len(needed), _VECTORS_AT_ONCE):
        part = slice(start, start + _VECTORS_AT_ONCE)
        if not are_equal(fingerprints(index.vectors(name, needed[part].tolist())), expected.prints[part]):
            return f"{name} holds damaged vectors"
    unfound = [stamp for stamp, vector in expected.samples.items() if not finds_itself(index, name, stamp, vector)]
    if too_many_unfound(len(unfound), len(expected.samples)):
        return f"{name} does not find {len(unfound)} of {len(expected.samples)} vectors by themselves"
    return None


def finds_itself(index: Readable, name: str, stamp: int, vector: Matrix) -> bool:
    """Whether a stored vector, or one that equals it, is found by itself."""
    for count in (_NEAREST, _MANY):
        stamps, cosines = index.query(name, vector, count)
        if stamp in stamps or (stamps and cosines[0] >= _SAME):
            return True
    return False


def too_many_unfound(unfound: int, tried: int) -> bool:
    """Whether so many of the tried vectors do not find themselves that the index must be damaged.

    A sound one, which is approximate, misses some now and then; mostly where many vectors are nearly equal.
    """
    return unfound > _MOST_UNFOUND * tried


def are_equal(found: Prints | Matrix, wanted: Prints | Matrix) -> bool:
    """Whether stored vectors, or their fingerprints, are those that were put in."""
    return np.allclose(found, wanted, rtol=0, atol=1e-3)
