"""What the index must hold, as SQL says it: all of it, or what tells quickly whether it does."""

import random
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from sqlalchemy import Connection

from reflexio_server.index.nearest import SAMPLES, Expected, Matrix, Outline, fingerprints
from reflexio_server.storage import collections, settling, vectors
from reflexio_server.storage.collections import Collection
from reflexio_server.storage.database import Database

_READ_AT_ONCE = 5_000  # vectors, 8 MB
_NEWEST, _RANDOM = 5, 20  # vectors of an outline


@dataclass(frozen=True, slots=True)
class IndexTruth:
    """See `nearest.Truth`."""

    database: Database

    def live(self) -> list[Collection]:
        with self.database.read() as conn:
            return collections.in_use(conn)

    def expected(self) -> list[Expected]:
        with self.database.read() as conn:
            return [expected_of(conn, collection) for collection in collections.in_use(conn)]

    def outlines(self, names: Container[str]) -> Iterator[Outline]:
        for live in self.live():
            if live.name in names:
                with self.database.read() as conn:
                    yield _outline(conn, live, partial(self._whole, live))

    def _whole(self, live: Collection) -> Expected:
        with self.database.read() as conn:
            return stamps_of(conn, live)


def expected_of(conn: Connection, live: Collection) -> Expected:
    """What the collection must hold: all vectors up to `applied` by their fingerprints, a random few to search for."""
    expected = stamps_of(conn, live)
    needed, prints = expected.needed, [expected.prints]
    for start in range(0, len(needed), _READ_AT_ONCE):
        count = min(_READ_AT_ONCE, len(needed) - start)
        part = vectors.after(conn, live.account_id, live.model, int(needed[start]) - 1, count)
        prints.append(fingerprints(part.matrix))
    chosen = vectors.of_stamps(conn, random.sample(needed.tolist(), min(SAMPLES, len(needed))))
    samples = dict(zip(chosen.stamps.tolist(), chosen.matrix, strict=False))
    return replace(expected, prints=np.concatenate(prints), samples=samples)


def stamps_of(conn: Connection, live: Collection) -> Expected:
    """The same, by the stamps alone."""
    stamps = vectors.applied_stamps(conn, live.account_id, live.model)
    erased = settling.pending_of_model(conn, live.account_id, live.model)
    return Expected(live.name, live.applied, stamps, np.array(erased, np.int64), np.zeros(0, np.float32), {})


def _outline(conn: Connection, live: Collection, whole: Callable[[], Expected]) -> Outline:
    count = vectors.count_up_to(conn, live.account_id, live.model, live.applied)
    erased = settling.pending_of_model(conn, live.account_id, live.model)
    count += sum(stamp <= live.applied for stamp in erased)
    return Outline(live.name, count, _samples(conn, live), whole)


def _samples(conn: Connection, live: Collection) -> dict[int, Matrix]:
    """The newest vectors up to `applied` and a random few, by their stamps."""
    found = [vectors.newest_up_to(conn, live.account_id, live.model, live.applied, _NEWEST)]
    first = vectors.after(conn, live.account_id, live.model, 0, 1).stamps
    for _ in range(_RANDOM if len(first) and first[0] <= live.applied else 0):
        after = random.randrange(int(first[0]) - 1, live.applied)
        found.append(vectors.after(conn, live.account_id, live.model, after, 1).up_to(live.applied))
    return {int(stamp): vector for some in found for stamp, vector in zip(some.stamps, some.matrix, strict=False)}
