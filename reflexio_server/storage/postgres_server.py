"""A database on a PostgreSQL server: a store of PostgreSQL's. Only this imports the driver, which an extra installs."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError

from reflexio_server import ending
from reflexio_server.errors import NotLeader
from reflexio_server.storage.postgres_claims import Claims
from reflexio_server.storage.prepared import as_core
from reflexio_server.storage.store import DatabaseInUse, DatabaseUnusable

POOL_SECONDS = 2.0  # that a call waits for a connection
CONNECT_SECONDS = 5
LEADER_SECONDS = 15  # without a sign of life of the leader
OLDEST_VERSION = 15
_ROWS_AT_ONCE = 50  # that are fetched on demand
_OWNER_LOCK = (0x5265666C, 1)  # "Refl"; the second: who writes; servers share it
_LEADER_LOCK = (0x5265666C, 2)
_LANES = 2  # so that a transaction that waits for an account's row does not hold up all others
_SCHEMA_LOCK = (0x5265666C, 3)  # who changes the schema; who looks at it shares it
_VERSION_LOCKS = 0x52656676  # "Refv"; the second: the newest schema of the version that writes
_PARTS = ("first", "second")  # of such a lock's number
_LOCK_SECONDS = 5  # that a change of the schema waits for a table: as long, all who come later wait behind it
_CANCEL_SECONDS = 1.0

# What holds for every session: nothing hangs for ever, and a commit is on disk when it returns.
_SETTINGS = {
    "statement_timeout": "65s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",  # compiling costs more than any of the statements
}
# A writing session keeps its plans: one that was made while a table was small, or unknown to the planner, must not read
# all of it for every commit when it is large.
_SETTINGS_OF_WRITING = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
}
# A leader whose process or machine stands still is one no more after a while: nothing of it is left under way.
_SETTINGS_OF_LEADING = {
    "idle_session_timeout": f"{LEADER_SECONDS}s",
    "idle_in_transaction_session_timeout": f"{LEADER_SECONDS}s",
}


def _set(settings: dict[str, str]) -> str:
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())


_SET_DURABLE = """SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')"""
_LEAD = text("SELECT pg_try_advisory_lock(:first, :second)")
# Passed over are tables that the server itself is at just now.
_VACUUM = "VACUUM (SKIP_LOCKED) interactions, requests, users, images, vectors, erased_vectors, waiting, full_text"
# A dead peer is noticed in half a minute, when nothing is under way, and in ten seconds else.
_NETWORK = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "reflexio-server",
}


class _Session(psycopg.Connection[Any]):
    """A connection whose own `execute`, which Prepared uses, gets values in binary: vectors need no unpacking."""

    _names = itertools.count()

    def execute(self, query: Any, params: Any = None, *, prepare: bool | None = None, binary: bool = True) -> Any:
        return super().execute(query, params, prepare=prepare, binary=binary)

    def on_demand(self, query: Any, params: Any) -> Iterator[Any]:
        """The rows, fetched some at a time."""
        with self.cursor(f"rows_{next(self._names)}") as cursor:
            cursor.itersize = _ROWS_AT_ONCE
            cursor.execute(query, params, binary=True)
            yield from cursor

    def copy_rows(self, conn: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """COPY these rows in."""
        ending.check()
        try:
            with self.cursor() as cursor, cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        except Exception as error:
            raise as_core(conn, statement, error) from error


class DatabaseServer:
    """See `store.Store`. The URL is libpq's, whose files and variables hold for what it does not say.

    `owner`: every session that writes shares a lock on the database with those of other servers, so that whoever needs
    it `alone` can have it only when none runs, and none starts meanwhile. `leader_url`: another way to the
    same database for the session that leads, past a proxy.

    Raises DatabaseUnusable.
    """

    mending = "restore a backup of the database"
    is_shared = True

    def __init__(self, url: str, *, owner: bool, alone: bool, readers: int, leader_url: str | None = None) -> None:
        given = _parts(url, "--database-url")
        self.name = _name(given)
        self._owner, self._alone = owner, alone
        self._version = 0
        self.lanes = 1 if alone else _LANES
        self._given = {**_NETWORK, **given, "client_encoding": "utf8"}
        leading = given if leader_url is None else _parts(leader_url, "REFLEXIO_LEADER_URL")
        self._leading = {**_NETWORK, **leading, "client_encoding": "utf8", "application_name": "reflexio-server leader"}
        self.write = self._engine(reads=False, connections=self.lanes)
        self.read = self._engine(reads=True, connections=readers)
        self.claims = Claims(self._session_apart)

    def own(self, schema: str) -> None:
        self._version = int(schema)
        with self.write.connect() as conn:
            version = int(conn.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
            if version < OLDEST_VERSION:
                raise DatabaseUnusable(f"{self.name} is of version {version}: {OLDEST_VERSION} or newer is needed")
            encoding = conn.execute(text("SHOW server_encoding")).scalar_one()
            if encoding != "UTF8":
                raise DatabaseUnusable(f"{self.name} keeps texts as {encoding}: make a database with UTF8")

    def begin(self) -> None:
        pass

    def candidate(self) -> Engine:
        return self._engine(reads=False, connections=1, leads=True)

    def lead(self, conn: Connection) -> bool:
        return bool(conn.execute(_LEAD, dict(zip(("first", "second"), _LEADER_LOCK, strict=True))).scalar())

    def is_owned(self) -> bool:
        """Whether some session holds the owner's lock."""
        query = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :first
            AND objid = :second AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        with self.read.connect() as conn:
            return bool(conn.execute(text(query), dict(zip(_PARTS, _OWNER_LOCK, strict=True))).scalar())

    def migrating(self, conn: Connection) -> None:
        _wait_for_schema(conn, "pg_advisory_xact_lock")
        conn.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))

    def looking(self, conn: Connection) -> None:
        _wait_for_schema(conn, "pg_advisory_xact_lock_shared")

    def is_used_by_older(self, conn: Connection, schema: str) -> bool:
        query = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :first
            AND CAST(objid AS bigint) < :version
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
        return bool(conn.execute(text(query), {"first": _VERSION_LOCKS, "version": int(schema)}).scalar())

    def committed(self, conn: Connection) -> None:
        pass

    def interrupt(self, conn: Connection) -> None:
        with suppress(psycopg.Error, SQLAlchemyError):
            session: Any = conn.connection.driver_connection
            session.cancel_safe(timeout=_CANCEL_SECONDS)

    def empty_log(self) -> bool:
        """Give what deleted rows took to new ones, which overwrite it in time. More cannot be done: see docs."""
        try:
            session = self._session_apart()
        except psycopg.OperationalError:
            return False
        try:
            session.execute("SET statement_timeout = 0")
            session.execute(_VACUUM)
        except psycopg.OperationalError:
            return False
        finally:
            session.close()
        return True

    def sizes(self) -> tuple[int, int]:
        with self.read.connect() as conn:
            return int(conn.execute(text("SELECT pg_database_size(current_database())")).scalar_one()), 0

    def close(self) -> None:
        self.read.dispose()
        self.write.dispose()
        self.claims.close()

    def _session_apart(self) -> _Session:
        session = _Session.connect(**self._given)
        session.autocommit = True
        session.execute(_set(_SETTINGS))
        return session

    def _engine(self, *, reads: bool, connections: int, leads: bool = False) -> Engine:
        engine = create_engine(
            "postgresql+psycopg://",  # what it connects to is known to `connect` alone
            paramstyle="format",
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_SECONDS,
            pool_use_lifo=True,
            hide_parameters=True,  # an error's text goes to the log, and the parameters are what people said
            use_native_hstore=False,
        )

        made = False

        @event.listens_for(engine, "do_connect")
        def connect(*_: Any) -> Any:
            nonlocal made
            if leads and made:
                raise NotLeader
            session = _Session.connect(**(self._leading if leads else self._given))
            made = True
            try:
                self._set_up(session, reads=reads, leads=leads)
            except BaseException:
                session.close()
                raise
            return session

        @event.listens_for(engine, "before_cursor_execute")
        def _check(*_: Any) -> None:
            ending.check()

        return engine

    def _set_up(self, session: _Session, *, reads: bool, leads: bool) -> None:
        session.autocommit = True
        session.execute(_set(_SETTINGS if reads else _SETTINGS | _SETTINGS_OF_WRITING))
        if not reads:
            session.execute(_SET_DURABLE)
            if self._owner:
                self._share(session)
                session.execute("SELECT pg_advisory_lock_shared(%s, %s)", (_VERSION_LOCKS, self._version))
            if leads:
                session.execute(_set(_SETTINGS_OF_LEADING))
        session.autocommit = False
        session.read_only = reads
        level = psycopg.IsolationLevel
        session.isolation_level = level.REPEATABLE_READ if reads else level.READ_COMMITTED

    def _share(self, session: _Session) -> None:
        lock = "pg_try_advisory_lock" if self._alone else "pg_try_advisory_lock_shared"
        if not session.execute(f"SELECT {lock}(%s, %s)", _OWNER_LOCK).fetchone()[0]:
            what = "a server uses" if self._alone else "a command has to itself"
            raise DatabaseInUse(f"{what} {self.name}: wait for its end, or stop it first")


def _wait_for_schema(conn: Connection, lock: str) -> None:
    """However long somebody else changes it. The transaction may take as long as it likes."""
    conn.execute(text("SET LOCAL statement_timeout = 0"))
    conn.execute(text("SET LOCAL lock_timeout = 0"))
    conn.execute(text(f"SELECT {lock}(:first, :second)"), dict(zip(_PARTS, _SCHEMA_LOCK, strict=True)))


def _parts(url: str, setting: str) -> dict[str, Any]:
    try:
        return conninfo_to_dict(url)
    except psycopg.Error:
        raise DatabaseUnusable(f"{setting} is no URL that PostgreSQL's libraries can read") from None


def _name(given: dict[str, Any]) -> str:
    """Where it is, without who connects and by which password."""
    host = given.get("host") or given.get("hostaddr") or "the local server"
    port = f":{given['port']}" if given.get("port") else ""
    return f"the database {given.get('dbname') or 'of the user'!r} on {host}{port}"
