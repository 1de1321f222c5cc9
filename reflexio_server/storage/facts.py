"""What ranking looks at of interactions beside their vectors, in columns of numpy."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, literal_column

from reflexio_server import roles
from reflexio_server.storage import dialect, expressions
from reflexio_server.storage.prepared import Prepared
from reflexio_server.storage.tables import interactions, requests

ROW = np.dtype(
    [
        ("stamp", np.int64),
        ("ref", np.int64),
        ("user", np.int64),
        ("thread", np.int64),
        ("created_at", np.int64),
        ("role", np.int32, (roles.WORDS,)),
        ("asks", np.bool_),
    ],
    align=True,
)
"""What is known of a vector's row without reading it: its vectors.id, its interaction, and of that one the user, the
number of the thread (0: none), when it happened, the numbers of the role's words (see `roles.numbers`), and whether its
text ends with a question mark. Another fact of the interaction that ranking needs is another column here."""

Rows = NDArray[np.void]
Places = NDArray[np.intp]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Refs of interactions of a thread, (n, 2) each, the earlier one first: of those that follow each other, and of those
with one in between."""

_CLOSING = " \t\r\n\"'”’»›)]}）」』】*_"  # what may follow a question mark
_last = expressions.last_character(interactions.c.content, _CLOSING)
COLUMNS = (
    interactions.c.id,
    interactions.c.user_ref,
    requests.c.request_group,
    interactions.c.created_at,
    interactions.c.role,
    _last.in_([literal_column(f"'{mark}'") for mark in "?？؟"]),  # it is found out once
)
"""What `rows` takes of an interaction and its request."""

_asked = expressions.numbers("refs")
_OF_REFS = Prepared(
    expressions.as_one_of(*COLUMNS).select_from(
        _asked.join(interactions, interactions.c.id == _asked.c.value).join(
            requests, requests.c.id == interactions.c.request_ref
        )
    )
)


def rows(found: Iterable[Sequence[Any]]) -> Rows:
    """What is known, of stamps each with the values of COLUMNS."""
    made = [
        (stamp, ref, user, _thread_number(user, request_group), created_at, roles.numbers(role), asks)
        for stamp, ref, user, request_group, created_at, role, asks in found
    ]
    return np.array(made, dtype=ROW)


def of_refs(conn: Connection, refs: NDArray[np.int64]) -> Rows:
    """What is known of interactions, whether or not they have vectors, in no order; their stamps are 0."""
    found = json.loads(_OF_REFS.scalar(conn, refs=json.dumps(refs.tolist())))
    return rows((0, *facts) for facts in found)


def neighbours(conn: Connection, refs: NDArray[np.int64]) -> Pairs:
    """What stands beside these interactions in their threads, up to two places away."""
    next_, second = set[tuple[int, int]](), set[tuple[int, int]]()
    for ref, before, after in dialect.of(conn).neighbours(conn, refs.tolist()):
        for pairs, place in ((next_, 0), (second, 1)):
            pairs.update((earlier, ref) for earlier in before[place : place + 1])
            pairs.update((ref, later) for later in after[place : place + 1])
    made = (np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2) for pairs in (next_, second))
    one, two = made
    return one, two


def _thread_number(user: int, request_group: str) -> int:
    """The same as long as the process lives; 0 without a name."""
    return hash((user, request_group)) if request_group else 0  # of 64 bits, so two threads with one are not met


class Links(NamedTuple):
    """Pairs of interactions of a thread: the one at place `later[i]` comes after the one at `earlier[i]`."""

    earlier: Places
    later: Places


@dataclass(frozen=True, eq=False)
class Texts:
    """Interactions, each once, in rising order of their refs, and how they stand to each other.

    Attributes:
        rows: one of the rows of each.
        pairs: which of them are near each other in a thread; None: all of a thread are there, and their order says it.
    """

    rows: Rows
    order: Places
    starts: Places
    pairs: Pairs | None = None

    @classmethod
    def of(cls, rows: Rows, pairs: Pairs | None = None) -> "Texts":
        """`rows`: of vectors, of which an interaction may have several."""
        order = np.argsort(rows["ref"], kind="stable")  # nearly sorted, and then quick
        refs = rows["ref"][order]
        starts = np.flatnonzero(np.append(True, refs[1:] != refs[:-1])[: len(refs)])
        return cls(rows[order[starts]], order, starts, pairs)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def refs(self) -> NDArray[np.int64]:
        return np.ascontiguousarray(self.rows["ref"])

    @cached_property
    def roles(self) -> tuple[NDArray[np.int32], Places]:
        """The roles there are, (k, roles.WORDS), and which of them each has: so that few are looked at."""
        return np.unique(self.rows["role"], axis=0, return_inverse=True)

    @cached_property
    def walk(self) -> Places:
        """The places of what is in a thread: thread after thread, each in the order of time."""
        members = np.flatnonzero(self.rows["thread"])
        inside = self.rows[members]
        return members[np.lexsort((inside["ref"], inside["created_at"], inside["thread"]))]

    @cached_property
    def threads(self) -> Places:
        """Where in the walk each thread begins."""
        numbers = self.rows["thread"][self.walk]
        return np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])[: len(numbers)])

    @cached_property
    def links(self) -> tuple[Links, Links]:
        """What follows each other in a thread, and what does with one in between."""
        if self.pairs is not None:
            one, two = (np.searchsorted(self.refs, refs) for refs in self.pairs)
            return Links(one[:, 0], one[:, 1]), Links(two[:, 0], two[:, 1])
        return self._apart(1), self._apart(2)

    def _apart(self, distance: int) -> Links:
        earlier, later = self.walk[:-distance], self.walk[distance:]
        same = self.rows["thread"][earlier] == self.rows["thread"][later]
        return Links(earlier[same], later[same])

    def best(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """Of each interaction the highest of its rows' values, which are in the order of the rows that were given."""
        if not len(self):
            return np.zeros(0)
        return np.maximum.reduceat(values[self.order], self.starts).astype(np.float64)
