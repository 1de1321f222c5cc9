"""What PostgreSQL does for published rows: written by the server's writer, and by bare COPY of the same rows."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq

from reflexio_server.model import NewRequest
from reflexio_server.rpc import convert
from reflexio_server.storage import accounts
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer
from tools.benchmarks.ingest import PAIR, made_requests
from tools.benchmarks.processes import computed_ms, threads_ns
from tools.postgres_run import Cluster

ROUND_ROWS = {100: 5_000, 1_000: 10_000}  # by the rows of a commit
ROUNDS = 5
COPIED_AT_ONCE = 1_000
_TRACED = 5  # commits

# What a publish inserts into, and which rows of it are of requests from one number to another.
_REQUESTS = "BETWEEN %s AND %s"
_THEIRS = f"id IN (SELECT id FROM interactions WHERE request_ref {_REQUESTS})"
_INSERTED = {
    "requests": f"id {_REQUESTS}",
    "interactions": f"request_ref {_REQUESTS}",
    "waiting": _THEIRS,
    "full_text": _THEIRS,
}


@dataclass(frozen=True, slots=True)
class Work:
    """Of some rows: seconds that passed, milliseconds that PostgreSQL's backends computed, bytes of its log."""

    rows: int
    seconds: float
    cpu_ms: float
    wal: float

    @property
    def per_s(self) -> float:
        return self.rows / self.seconds

    @property
    def cpu_us(self) -> float:
        """A row."""
        return self.cpu_ms * 1000 / self.rows

    @property
    def wal_bytes(self) -> float:
        """A row."""
        return self.wal / self.rows


class Watched:
    """A database of a server on this machine, and what its backends do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._asking = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._asking.close()

    def value(self, query: str, *values: Any) -> Any:
        row = self._asking.execute(query, values).fetchone()
        return row[0] if row else None

    def all(self, query: str, *values: Any) -> list[Any]:
        return [row[0] for row in self._asking.execute(query, values)]

    @contextmanager
    def measured(self, rows: int) -> Iterator[list[Work]]:
        """What the block has this database do; in the list when it ends."""
        found: list[Work] = []
        log, before, began = self._log(), self._computed(), time.perf_counter()
        yield found
        seconds = time.perf_counter() - began
        cpu = computed_ms(before, self._computed())
        found.append(Work(rows, seconds, cpu, self._log() - log))

    def _log(self) -> float:
        return float(self.value("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))

    def _computed(self) -> dict[Path, int]:
        query = """SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid()
                   AND backend_type = 'client backend'"""
        return threads_ns(self.all(query))


class Copies:
    """A database with the same tables and indexes, into which what another one has is copied."""

    def __init__(self, of: Watched, url: str) -> None:
        with tempfile.TemporaryDirectory() as name:
            Database(Path(name), owner=True, url=url).close()
        self._of, self._into = of, Watched(url)
        self._conn = psycopg.connect(url)
        self._conn.execute("SET synchronous_commit = 'on'")
        self._conn.commit()
        self._last = 0

    def close(self) -> None:
        self._conn.close()
        self._into.close()

    def catch_up(self, at_once: int, per_request: int) -> Work:
        """Copy what is new there, so many rows in a transaction; the rows are read beforehand."""
        with self._conn.transaction():
            for table in ("accounts", "users"):
                last = self._conn.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
                self._write(table, self._read(table, "id > %s", *(last or (0,))))
        new = self._of.all("SELECT id FROM requests WHERE id > %s ORDER BY id", self._last)
        cuts = [*new[:: at_once // per_request], new[-1] + 1]
        parts = [
            [(table, self._read(table, where, first, after - 1)) for table, where in _INSERTED.items()]
            for first, after in pairwise(cuts)
        ]
        self._last = new[-1]
        rows = int(self._of.value(f"SELECT count(*) FROM interactions WHERE request_ref {_REQUESTS}", new[0], new[-1]))
        with self._into.measured(rows) as found:
            for part in parts:
                with self._conn.transaction():
                    for table, data in part:
                        self._write(table, data)
        return found[0]

    def _read(self, table: str, where: str, *values: int) -> list[bytes]:
        with psycopg.connect(self._of.url) as conn, conn.cursor() as cursor:
            query = f"COPY (SELECT * FROM {table} WHERE {where} ORDER BY id) TO STDOUT"
            with cursor.copy(query, values) as copy:
                return [bytes(b"".join(bytes(data) for data in copy))]

    def _write(self, table: str, blocks: list[bytes]) -> None:
        with self._conn.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
            for block in blocks:
                copy.write(block)


def of_writer(cluster: Cluster) -> tuple[dict[int, list[tuple[Work, Work]]], dict[int, tuple[int, int]]]:
    """By the rows of a commit: of each round what the writer's and the bare COPY's rows cost, in turn; and the
    statements and round trips of a commit."""
    url = cluster.new()
    with tempfile.TemporaryDirectory() as name:
        database = Database(Path(name), owner=True, url=url)
        with database.write() as conn:
            accounts.add_account(conn, "bench@example.com", "bench00000", "-", 0)
        ours = Watched(url)
        copies = Copies(ours, cluster.new())
        writer = Writer(database, 16)
        try:
            rounds: dict[int, list[tuple[Work, Work]]] = {at_once: [] for at_once in ROUND_ROWS}
            for number in range(-1, ROUNDS):
                for at_once, rows in ROUND_ROWS.items():
                    commits = _commits(f"round {number} of {at_once}", rows, at_once)
                    with ours.measured(rows) as written:
                        for commit in commits:
                            writer.publish(1, commit).result()
                    copied = copies.catch_up(at_once, PAIR)
                    if number >= 0:  # the one before warms up both
                        rounds[at_once].append((written[0], copied))
            return rounds, {at_once: _exchanged(database, writer, at_once) for at_once in (1, *ROUND_ROWS)}
        finally:
            writer.close()
            database.close()
            copies.close()
            ours.close()


def _commits(name: str, rows: int, at_once: int) -> list[Sequence[NewRequest]]:
    """Requests that are made already, as many as one commit takes."""
    per_request = min(PAIR, at_once)
    requests = [convert.new_request(request) for request in made_requests(name, rows, per_request)]
    size = at_once // per_request
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _exchanged(database: Database, writer: Writer, at_once: int) -> tuple[int, int]:
    """The statements of one commit, BEGIN and COMMIT among them, and how often the writer waits for an answer."""
    commits = _commits(f"traced {at_once}", at_once * _TRACED, at_once)
    with database.write() as conn:
        driver: Any = conn.connection.driver_connection
    with tempfile.TemporaryFile() as file:
        driver.pgconn.trace(file.fileno())
        driver.pgconn.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        for commit in commits:
            writer.publish(1, commit).result()
        driver.pgconn.untrace()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        messages = [line.split(b"\t")[0:3:2] for line in file.read().splitlines()]
    statements = sum(one in ([b"F", b"Query"], [b"F", b"Execute"]) for one in messages)
    answers = sum(one in ([b"B", b"ReadyForQuery"], [b"B", b"CopyInResponse"]) for one in messages)
    return round(statements / _TRACED), round(answers / _TRACED)
