"""An index in an open folder of Chroma's: an approximate index for each account, by one process."""

import contextlib
import json
import os
import resource
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api.rust import RustBindingsAPI
from chromadb.api.shared_system_client import SharedSystemClient
from chromadb.config import Settings, System
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from reflexio_server.index import hnsw_files

# Read when a collection is opened. Of 300 self-queries 4 were missed at ef_search 100, none at 400. At 20,000 vectors
# ef_construction 200 found no more than 100 (0 of 1,000 self-queries missed, recall 0.999) and took half as long again.
_HNSW: Any = {"space": "cosine", "ef_construction": 100, "ef_search": 400}


class QuietSettings(Settings):
    """Chroma's settings: nothing is reported, and neither the environment nor a `.env` that lies about says otherwise.

    Chroma would take variables such as CHROMA_API_IMPL, and call another machine.
    """

    model_config = {"env_file": None}  # noqa: RUF012
    anonymized_telemetry: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


def is_as_closed(folder: Path, applied: Mapping[str, int]) -> bool:
    """Whether the folder was closed in order, its collections this far, and no file in it was touched since."""
    try:
        return bool(json.loads(folder.with_suffix(".closed").read_text()) == _note(folder, applied))
    except (OSError, ValueError):
        return False


def _note(folder: Path, applied: Mapping[str, int]) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {str(path.relative_to(folder)): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
    return {"applied": dict(applied), "files": sizes}


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
    """The open folder. Every method may raise whatever chromadb raises on a damaged one, a BaseException included.

    At most `most` collections are open; when another is asked for, the folder is closed, as soon as nobody uses it,
    and opened again. Chroma would close single ones itself, but loses what it had not written to their files until
    the folder is opened anew: of 1,500 vectors the last 500 were not found, without a word.
    """

    def __init__(self, folder: Path, most: int | None = None) -> None:
        folder.with_suffix(".closed").unlink(missing_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.number = int(folder.name)
        self.most = most or most_open()
        self._collections: dict[str, Any] = {}
        self._held: set[str] = set()  # collections that are open or being opened
        self._upserted: set[str] = set()
        self._writing = threading.RLock()  # what is written while files are emptied would be lost
        self._changed = threading.Condition()
        self._users = 0  # calls under way
        self._renewing = False
        self.dropped: set[str] = set()
        self._client: Any = _connect(folder)

    def upsert(
        self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: NDArray[np.float32], new: bool = True
    ) -> None:
        self.dropped.discard(name)
        with self._using(name), self._writing:
            self._collection(name, new).upsert(
                ids=[str(stamp) for stamp in stamps],
                embeddings=matrix,
                metadatas=[{"user": int(user)} for user in users],
            )
            if name not in self._upserted:  # a new one has its files now
                self.empty_unread_files()
                self._upserted.add(name)

    def query(
        self, name: str, vector: NDArray[np.float32], count: int, user: int | None = None
    ) -> tuple[list[int], NDArray[np.float32]]:
        with self._using(name):
            found = self._collection(name).query(
                query_embeddings=[vector],
                n_results=count,
                where=None if user is None else {"user": user},
                include=["distances"],
            )
        stamps = [int(stamp) for stamp in found["ids"][0]]
        return stamps, 1 - np.array(found["distances"][0], dtype=np.float32)

    def stamps(self, name: str) -> list[int]:
        with self._using(name):
            return sorted(int(stamp) for stamp in self._collection(name).get(include=[])["ids"])

    def vectors(self, name: str, stamps: Sequence[int]) -> NDArray[np.float32]:
        with self._using(name):
            found = self._collection(name).get(ids=[str(stamp) for stamp in stamps], include=["embeddings"])
        by_stamp = {int(stamp): place for place, stamp in enumerate(found["ids"])}
        matrix = np.array(found["embeddings"], dtype=np.float32)
        return matrix[[by_stamp[stamp] for stamp in stamps]]

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        with self._using(name), self._writing:
            self._collection(name).delete(ids=[str(stamp) for stamp in stamps])

    def empty_unread_files(self) -> None:
        with self._writing:
            hnsw_files.empty_unread(self.folder)

    def names(self) -> list[str]:
        with self._using():
            return [collection.name for collection in self._client.list_collections()]

    def drop(self, names: set[str]) -> None:
        for name in names:
            self.dropped.add(name)
            self._upserted.discard(name)
            with self._using():
                self._client.delete_collection(name)
            self._collections.pop(name, None)

    def close(self) -> None:
        self._collections.clear()
        client, self._client = self._client, None
        if client is not None:
            _release(self.folder, client)

    def note_closed(self, applied: Mapping[str, int]) -> None:
        with contextlib.suppress(OSError):
            self.folder.with_suffix(".closed").write_text(json.dumps(_note(self.folder, applied)))

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

    def _collection(self, name: str, new: bool = False) -> Any:
        found = self._collections.get(name)
        if found is None:
            with self._writing:
                # Vectors always come from us: chromadb's default function would fetch a model.
                if new:
                    found = self._client.get_or_create_collection(
                        name, embedding_function=None, configuration={"hnsw": _HNSW}
                    )
                else:
                    found = self._client.get_collection(name, embedding_function=None)
                found.get(limit=1, include=[])  # has Chroma open the collection's files
                self.empty_unread_files()
                self._collections[name] = found
        return found


def _connect(folder: Path) -> Any:
    """Open the folder. If that fails, nothing of it is left open: chromadb would keep it, by its path, for ever."""
    hnsw_files.empty_unread(folder)
    os.environ.setdefault("SQLITE_TMPDIR", str(folder.parent))  # there need be no other that can be written
    _release(folder)
    settings = QuietSettings(is_persistent=True, persist_directory=str(folder))
    system = System(settings)
    SharedSystemClient._identifier_to_system[str(folder)] = system  # where PersistentClient looks for it
    try:
        # Chroma would take a fifth of all files, and lose what it closes, see ChromaIndex.
        system.instance(RustBindingsAPI).hnsw_cache_size = _NEVER_CLOSED
        system.start()
        return chromadb.PersistentClient(path=str(folder), settings=settings)
    except BaseException:
        _release(folder)
        raise


def _release(folder: Path, client: Any = None) -> None:
    """Have chromadb keep nothing of a folder, whatever state it is in."""
    with contextlib.suppress(BaseException):
        if client is not None:
            client.close()
    system = SharedSystemClient._identifier_to_system.pop(str(folder), None)
    SharedSystemClient._identifier_to_refcount.pop(str(folder), None)
    with contextlib.suppress(BaseException):  # of what did not start, or stopped
        if system is not None:
            system.stop()
