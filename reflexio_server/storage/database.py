"""Opening the database: connections, migrations, and the lock that gives a data directory one owner."""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from reflexio.supervised import say
from reflexio_server import ending
from reflexio_server.errors import Damaged, DatabaseUnavailable, Ended, TooBusy
from reflexio_server.storage import dialect, schema, tables
from reflexio_server.storage.candidate import Candidate
from reflexio_server.storage.store import DatabaseInUse, DatabaseUnusable, Store

logger = logging.getLogger(__name__)

DATABASE_FILE = "reflexio.db"
LOCK_FILE = "server.lock"
_PATIENCE_SECONDS = 0.2  # for those who only look whether somebody owns the directory, and own it for that moment

_PAUSE_SECONDS = 0.2
_IN_VAIN_SECONDS = 0.5  # after a call waited for a connection in vain


class DataDirectoryInUse(Exception):
    """Another process owns the data directory."""


@contextmanager
def own(data_dir: Path, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Own the data directory until the block ends; it is made, for its user alone, when it is not there.

    Raises DataDirectoryInUse when another process owns it, for longer than `is_owned` does. The operating system frees
    it when the owner dies. The folder itself is locked beside a file in it, which somebody may remove, so that it could
    be locked anew.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as held:
        file = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        held.callback(os.close, file)
        with suppress(PermissionError):  # another user's, who lets this one write to it
            os.fchmod(file, 0o600)
        folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, folder)
        try:
            _lock(file, data_dir, patience)
        except OSError as error:
            text = f"its file system has no locks to keep two servers apart ({error.strerror}), use another"
            raise OSError(error.errno, text, str(data_dir)) from None
        with suppress(OSError):  # some network file systems lock files only
            _lock(folder, data_dir, patience)
        yield


def is_owned(data_dir: Path) -> bool:
    """Whether another process owns the data directory."""
    try:
        with own(data_dir, patience=0):
            return False
    except DataDirectoryInUse:
        return True


def _lock(fd: int, data_dir: Path, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        if time.monotonic() >= end:
            raise DataDirectoryInUse(
                f"another reflexio-server is using {data_dir}; stop it, or choose another --data-dir"
            )
        time.sleep(0.01)


class Database:
    """The database of a data directory.

    `owner`: the process holds the directory (see `own`), so it may make the schema, migrate an older one that nobody
    else uses, and checkpoint. Others must find one that this version can use. `alone`: no other process may own it
    meanwhile, also where a server keeps it, which many may own else. `readers` is how many threads may read at the same
    time. `part`: a new one is marked as one that a store is imported into, which nobody opens else (see importing.py),
    and `is_part` tells whether it is one.

    Raises DatabaseUnusable.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        owner: bool,
        alone: bool = False,
        readers: int = 1,
        url: str | None = None,
        leader_url: str | None = None,
        create: bool = True,
        patience: float = 0,
        part: bool = False,
    ) -> None:
        self.is_damaged = False
        self.is_part = False
        self._in_vain_until = 0.0
        self.on_damage: Callable[[], None] = lambda: None
        self._data_dir = data_dir
        self._store: Store = dialect.open_store(
            data_dir / DATABASE_FILE, url, owner=owner, alone=alone, readers=readers, leader_url=leader_url
        )
        self.is_shared = self._store.is_shared
        self.name, self.mending = self._store.name, self._store.mending
        self.lanes, self.claims = self._store.lanes, self._store.claims
        try:
            if owner:
                self._own(patience)
                self._make(create, part)
                self._store.begin()
            else:
                self._check_schema()
        except SQLAlchemyError as error:
            self.close()
            raise DatabaseUnusable(what_is_wrong(self.name, error)) from None
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot: everything read inside the block is of one moment.

        Raises Damaged when the database is, Ended when the call does that it is read for (see `ending`),
        DatabaseUnavailable, and TooBusy when others have all connections.
        """
        self._refuse_if_in_vain()
        with (
            self._telling(self._store.read),
            self._store.read.connect() as conn,
            ending.stopped_by(partial(self._store.interrupt, conn)),
            conn.begin(),
        ):
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One write transaction, on disk when the block ends. In a server only the Writer may use it.

        Raises Damaged when the database is, and DatabaseUnavailable: then it is not known whether it is stored.
        """
        with self._writing(self._store.write) as conn:
            yield conn

    def candidate(self) -> Candidate | None:
        """What may come to lead; it connects when it first tries. None: whoever owns the data directory leads."""
        engine = self._store.candidate()
        return None if engine is None else Candidate(self._store, engine, self._writing)

    def report_damage(self, what: str) -> None:
        """Say once that the file is damaged, and tell who set `on_damage`."""
        if not self.is_damaged:
            self.is_damaged = True
            say(logger.error, "%s is damaged (%s): stop the server and %s", self.name, what, self.mending)
            self.on_damage()

    def _refuse_if_in_vain(self) -> None:
        """Who was kept waiting by calls that waited for a connection in vain is told at once."""
        pool = self._store.read.pool
        if time.monotonic() < self._in_vain_until and isinstance(pool, QueuePool) and pool.checkedout() >= pool.size():
            raise TooBusy("reads waiting")

    @contextmanager
    def _writing(self, engine: Engine) -> Iterator[Connection]:
        with self._telling(engine), engine.connect() as conn:
            with conn.begin():
                yield conn
            self._store.committed(conn)

    @contextmanager
    def _telling(self, engine: Engine) -> Iterator[None]:
        try:
            yield
        except PoolTimeout:
            self._in_vain_until = time.monotonic() + _IN_VAIN_SECONDS
            raise TooBusy("reads waiting") from None
        except DatabaseInUse as error:
            say(logger.error, "nothing can be written: %s", error)
            raise DatabaseUnavailable from None
        except DBAPIError as error:
            if error.connection_invalidated:
                engine.dispose()  # the others are lost as well
            met = dialect.as_domain(error)
            if isinstance(met, Damaged):
                self.report_damage(str(error.orig))
            if isinstance(met, DatabaseUnavailable):
                say(logger.warning, "%s cannot be used: %s", self.name, dialect.describe(error) or error.orig)
            if not isinstance(met, Damaged | DatabaseUnavailable | Ended):
                raise
            raise met from None

    def empty_log(self) -> bool:
        """Let no bytes of what was deleted stay, as far as that can be done; False when it must be tried again.

        Only for the owner. The Writer waits meanwhile.
        """
        return self._store.empty_log()

    def sizes(self) -> tuple[int, int]:
        """Bytes that it takes, and that its log does. Raises as `read` does."""
        with self._telling(self._store.read):
            return self._store.sizes()

    def close(self) -> None:
        """Close every connection, the writer's last."""
        self._store.close()

    def _own(self, patience: float) -> None:
        end = time.monotonic() + patience
        while True:
            try:
                return self._store.own(tables.NEWEST_SCHEMA)
            except DatabaseInUse:  # a server that was killed may hold it for a moment
                if time.monotonic() >= end:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def is_owned(self) -> bool:
        """Whether some process owns it, this one included."""
        owned = self._store.is_owned()
        return is_owned(self._data_dir) if owned is None else owned

    def _make(self, create: bool, part: bool) -> None:
        """Have a schema that this version can use; one that others use too is only made, never changed."""
        with self._store.write.connect() as conn, conn.begin():
            self._store.looking(conn)
            found = schema.look(conn)
        with self._store.write.connect() as conn, conn.begin():
            if found.revision is None and create:
                self._store.migrating(conn)
                found = schema.look(conn)  # another server may have made it just now
            if part and found.is_part_of_this:
                self.is_part = True
                return
            schema.must_be_whole(found, self.name)
            if found.is_of_this:
                return
            if part and found.revision is not None:
                raise DatabaseUnusable(
                    f"{self.name} has something else in it, of schema {found.revision}: make a new database"
                )
            if found.revision is None and not create:
                raise DatabaseUnusable(f"{self.name} has nothing of Reflexio's: check --database-url")
            if found.revision is not None and self._store.is_shared:
                schema.must_fit(found, self.name)
                return
            from reflexio_server.storage.migrating import known_schemas, migrate

            if found.revision is not None and found.revision not in known_schemas():
                raise schema.unknown(found, self.name)
            migrate(conn)
            if part:
                schema.mark_part(conn, True)
                self.is_part = True

    def _check_schema(self) -> None:
        with self._store.read.connect() as conn, conn.begin():
            found = schema.look(conn)
        schema.must_be_whole(found, self.name)
        if self._store.is_shared:
            schema.must_fit(found, self.name)
        elif not found.is_of_this:
            raise DatabaseUnusable(
                f"the running server's database has schema {found.revision}, this version needs "
                f"{tables.NEWEST_SCHEMA}: restart the server with this version, or use the version it runs"
            )


@contextmanager
def to_migrate(url: str) -> Iterator[Store]:
    """A database that servers may use meanwhile. Raises DatabaseUnusable, also for what fails in the block."""
    store = dialect.open_store(Path(), url, owner=False, alone=False, readers=1)
    with closing(store):
        try:
            store.own(tables.NEWEST_SCHEMA)
            yield store
        except SQLAlchemyError as error:
            raise DatabaseUnusable(what_is_wrong(store.name, error)) from None


def is_of_database(error: BaseException) -> bool:
    """Whether it is an error of the database, or of a statement put to it."""
    return isinstance(error, SQLAlchemyError)


def what_is_wrong(name: str, error: SQLAlchemyError) -> str:
    """A line about a database that cannot be used, for whoever runs the server."""
    reason = str(getattr(error, "orig", error)).strip().replace("\n", " ")
    if isinstance(dialect.as_domain(error), Damaged):
        return f"{name} is damaged ({reason}): {dialect.describe(error)}"
    return f"cannot use {name} ({reason}): {dialect.describe(error) or 'see the error'}"
