"""Login tries that are left, where servers share a database: they are counted by its clock, and seen by all of them.

A row says when its bucket is full again (microseconds since 1970); who has no row has all tries. The table is not in
the write-ahead log: after a crash of the database everybody has all tries again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from sqlalchemy import Connection, text

from reflexio_server.storage.prepared import Prepared

SWEPT_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket by its key: how many tries it has when full, and after how many microseconds one comes back."""

    key: bytes
    capacity: int
    each: int


_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"
_GIVEN = f"""WITH given AS (
        SELECT * FROM unnest(CAST(:keys AS bytea[]), CAST(:each AS bigint[]), CAST(:rooms AS bigint[]))
            AS g(key, each, room)),
    moment AS MATERIALIZED (SELECT {_NOW} AS now)"""
# What is refused by what is there writes nothing; the rows of a try that others took meanwhile are told by their lack.
_TAKE = Prepared(
    text(
        f"""{_GIVEN}
        INSERT INTO login_tries AS t (key, full_at)
        SELECT key, now + each FROM given, moment
        WHERE NOT EXISTS (SELECT 1 FROM given g JOIN login_tries b ON b.key = g.key, moment m
                          WHERE b.full_at - m.now > g.room)
        ORDER BY key
        ON CONFLICT (key) DO UPDATE
        SET full_at = greatest(t.full_at, (SELECT now FROM moment))
                      + (SELECT each FROM given WHERE given.key = excluded.key)
        WHERE t.full_at - (SELECT now FROM moment) <= (SELECT room FROM given WHERE given.key = excluded.key)
        RETURNING key"""
    )
)
_WAIT = Prepared(
    text(
        f"""{_GIVEN}
        SELECT CAST(max(t.full_at - now - room) AS bigint)
        FROM given JOIN login_tries t ON t.key = given.key, moment"""
    )
)
_GIVE_BACK = Prepared(
    text("UPDATE login_tries SET full_at = full_at - CAST(:each AS bigint) WHERE key = CAST(:key AS bytea)")
)
_FORGET = Prepared(text("DELETE FROM login_tries WHERE key = CAST(:key AS bytea)"))
_SWEEP = Prepared(
    text(
        f"""DELETE FROM login_tries WHERE key IN (
            SELECT key FROM login_tries WHERE full_at < {_NOW} LIMIT CAST(:most AS bigint) FOR UPDATE SKIP LOCKED)"""
    )
)


class NoTry(Exception):
    """There is no try left: `seconds` until there is one of each. It undoes what was taken."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


def take(conn: Connection, buckets: Sequence[Bucket]) -> None:
    """Take a try of each bucket. Raises NoTry when one has none. Needs a write transaction of its own."""
    given = {
        "keys": [bucket.key for bucket in buckets],
        "each": [bucket.each for bucket in buckets],
        "rooms": [(bucket.capacity - 1) * bucket.each for bucket in buckets],
    }
    if len(_TAKE.rows(conn, **given)) < len(buckets):
        raise NoTry(max(_WAIT.scalar(conn, **given) or 0, 1) / 1e6)


def give_back(conn: Connection, buckets: Sequence[Bucket]) -> None:
    """Give back a try of each. Needs a write transaction of its own."""
    for bucket in sorted(buckets, key=attrgetter("key")):  # in the order that all lock rows in
        _GIVE_BACK.run(conn, key=bucket.key, each=bucket.each)


def succeed(conn: Connection, forgotten: Bucket, given_back: Bucket) -> None:
    """Let one bucket be full, and give back a try of another. Needs a write transaction of its own."""
    steps = [(forgotten.key, True), (given_back.key, False)]
    for key, forget in sorted(steps):
        if forget:
            _FORGET.run(conn, key=key)
        else:
            _GIVE_BACK.run(conn, key=key, each=given_back.each)


def sweep(conn: Connection) -> None:
    """Delete rows of buckets that are full. Needs a write transaction of its own."""
    _SWEEP.run(conn, most=SWEPT_AT_ONCE)
