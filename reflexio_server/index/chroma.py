"""An index in an open folder of Chroma's: an approximate index for each account, by one process.

Chroma is used by its bindings to Rust, which are all of it that works on folders: the package around them takes a
second of processor time to import, 14 MB, and settings from the environment that would send vectors elsewhere.
"""

import contextlib
import json
import os
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import chromadb_rust_bindings as chroma  # type: ignore[import-untyped]
import numpy as np

from reflexio_server.index import hnsw_files
from reflexio_server.index.nearest import Matrix, Stamps

# Read when a collection is opened. Of 300 self-queries 4 were missed at ef_search 100, none at 400. At 20,000 vectors
# ef_construction 200 found no more than 100 (0 of 1,000 self-queries missed, recall 0.999) and took half as long again.
_HNSW = {"space": "cosine", "ef_construction": 100, "ef_search": 400}
_NO_EMBEDDING = {"type": "legacy"}
_CONFIGURATION = json.dumps({"hnsw": _HNSW, "spann": None, "embedding_function": _NO_EMBEDDING})
_DATABASE = "chroma.sqlite3"
_OWNER = "default_tenant", "default_database"

# Chroma holds the interpreter's lock for the whole of an upsert, so that queries wait. A hundred vectors in four pieces
# take a quarter more processor time: done while queries come, with pauses in which one can be answered.
_PIECE = 25
_PAUSE_SECONDS = 0.005
_ASKED_SECONDS = 1.0

_MOST_OPEN = 1000  # collections: an open one of few vectors takes 2.6 MB
_LEAST_OPEN = 4
_FILES_OF_ALL = 65536  # where there is no limit
_NEVER_CLOSED = 1 << 30  # so many collections Chroma itself may keep open


def most_open() -> int:
    """How many collections may be open: each takes 4 files, and three quarters of all stay for everything else."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = _FILES_OF_ALL if files == resource.RLIM_INFINITY else files
    return max(_LEAST_OPEN, min(_MOST_OPEN, files // 16))


class ChromaIndex:
    """The open folder. Every method may raise whatever Chroma raises on a damaged one, a BaseException included.

    At most `most` collections are open; when another is asked for, the folder is closed, as soon as nobody uses it,
    and opened again. Chroma would close single ones itself, but loses what it had not written to their files until
    the folder is opened anew: of 1,500 vectors the last 500 were not found, without a word.
    """

    def __init__(self, folder: Path, most: int | None = None) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.most = most or most_open()
        self._ids: dict[str, str] = {}
        self._held: set[str] = set()  # collections that are open or being opened
        self._upserted: set[str] = set()
        self._writing = threading.RLock()  # what is written while files are emptied would be lost
        self._changed = threading.Condition()
        self._users = 0  # calls under way
        self._asked = 0.0  # when the last query came (time.monotonic)
        self._renewing = False
        self._client: Any = _connect(folder)

    def upsert(self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: Matrix, new: bool = True) -> None:
        ids, metadata = [str(stamp) for stamp in stamps], [{"user": int(user)} for user in users]
        with self._using(name), self._writing:
            collection = self._id(name, new)
            size = _PIECE if time.monotonic() - self._asked < _ASKED_SECONDS else len(ids)
            for part in (slice(start, start + size) for start in range(0, len(ids), size)):
                self._client.upsert(collection, ids[part], matrix[part], metadata[part], None, None, *_OWNER)
                if size == _PIECE:
                    time.sleep(_PAUSE_SECONDS)
            if name not in self._upserted:  # a new one has its files now
                self.empty_unread_files()
                self._upserted.add(name)

    def query(self, name: str, vector: Matrix, count: int, user: int | None = None) -> tuple[list[int], Matrix]:
        self._asked = time.monotonic()
        where = None if user is None else json.dumps({"user": user})
        with self._using(name):
            found = self._client.query(self._id(name), None, [vector], count, where, None, ["distances"], *_OWNER)
        stamps = [int(stamp) for stamp in found.ids[0]]
        return stamps, 1 - np.array(found.distances[0], dtype=np.float32)

    def stamps(self, name: str) -> Stamps:
        with self._using(name):
            return np.sort(np.array(self._get(self._id(name), None, None, []).ids, dtype=np.int64))

    def vectors(self, name: str, stamps: Sequence[int]) -> Matrix:
        with self._using(name):
            found = self._get(self._id(name), [str(stamp) for stamp in stamps], None, ["embeddings"])
        by_stamp = {int(stamp): place for place, stamp in enumerate(found.ids)}
        matrix = np.array(found.embeddings, dtype=np.float32)
        return matrix[[by_stamp[stamp] for stamp in stamps]]

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        with self._using(name), self._writing:
            self._client.delete(self._id(name), [str(stamp) for stamp in stamps], None, None, None, *_OWNER)

    def empty_unread_files(self) -> None:
        with self._writing:
            hnsw_files.empty_unread(self.folder)

    def names(self) -> list[str]:
        with self._using():
            return [collection.name for collection in self._client.list_collections(None, None, *_OWNER)]

    def drop(self, names: set[str]) -> None:
        for name in names:
            self._upserted.discard(name)
            with self._using():
                self._client.delete_collection(name, *_OWNER)
            self._ids.pop(name, None)
        if names:  # Chroma keeps memory, files and vectors of what is dropped
            with self._changed:
                self._changed.wait_for(lambda: not self._renewing)
                self._renew()

    def close(self) -> None:
        self._ids.clear()
        self._client = None

    @contextlib.contextmanager
    def _using(self, name: str | None = None) -> Iterator[None]:
        """The folder is not closed and opened again meanwhile; done first where this needs one collection too many."""
        with self._changed:
            self._changed.wait_for(lambda: not self._renewing)
            if name is not None and name not in self._held:
                if len(self._held) >= self.most:
                    self._renew()
                self._held.add(name)
            self._users += 1
        try:
            yield
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def _renew(self) -> None:
        self._renewing = True
        try:
            self._changed.wait_for(lambda: not self._users)
            self._held.clear()
            self.close()
            self._client = _connect(self.folder)
        finally:
            self._renewing = False
            self._changed.notify_all()

    def _id(self, name: str, new: bool = False) -> str:
        """What Chroma knows the collection by, which has its files open then."""
        found = self._ids.get(name)
        if found is None:
            with self._writing:
                if new:
                    made = self._client.create_collection(name, _CONFIGURATION, None, None, True, *_OWNER)
                else:
                    made = self._client.get_collection(name, *_OWNER)
                found = str(made.id)
                self._get(found, None, 1, [])  # has Chroma open them
                self.empty_unread_files()
                self._ids[name] = found
        return found

    def _get(self, collection: str, ids: list[str] | None, limit: int | None, include: list[str]) -> Any:
        return self._client.get(collection, ids, None, limit, 0, None, include, *_OWNER)


def _remove_dropped(folder: Path) -> None:
    """Remove the files of collections that are not there any more, while nobody has the folder open."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_read_only(folder / _DATABASE)) as database:
        used = {name for (name,) in database.execute("SELECT id FROM segments")}
        for index in hnsw_files.indexes(folder):
            if index.name not in used:
                shutil.rmtree(index, ignore_errors=True)


def _read_only(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def _connect(folder: Path) -> Any:
    _remove_dropped(folder)
    hnsw_files.empty_unread(folder)
    os.environ.setdefault("SQLITE_TMPDIR", str(folder.parent))  # there need be no other that can be written
    database = chroma.SqliteDBConfig(
        hash_type=chroma.MigrationHash.MD5, migration_mode=chroma.MigrationMode.Apply, url=str(folder / _DATABASE)
    )
    # Left to itself it would take a fifth of all files, and lose what it closes, see ChromaIndex.
    return chroma.Bindings(
        allow_reset=False, sqlite_db_config=database, persist_path=str(folder), hnsw_cache_size=_NEVER_CLOSED
    )
