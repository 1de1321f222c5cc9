"""Chroma as a follower: an approximate index per account, in a folder that can be lost at any time.

One process owns the folder. chromadb caches its clients by path, so a folder that was set aside is followed by one
of another name.
"""

import contextlib
import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.config import Settings
from numpy.typing import NDArray
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from reflexio_server.index import hnsw_files

CHROMA_FOLDER = "chroma"  # below the data directory
BATCH = 100  # add and upsert hold the interpreter lock for the whole call: 100 records take about 25 ms

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
        """What is given, and the defaults."""
        return (init_settings,)


def number_of(folder: Path) -> int:
    """The number of a folder, which tells its collections from those of others."""
    return int(folder.name)


def newest_folder(root: Path) -> Path | None:
    """The live folder below `root`: the one with the highest number for a name."""
    numbered = [path for path in root.glob("*") if path.name.isdigit() and path.is_dir()]
    return max(numbered, key=lambda path: int(path.name), default=None)


def next_folder(root: Path) -> Path:
    """A folder name that was never used below `root`."""
    used = [int(path.name.split(".")[0]) for path in root.glob("*") if path.name.split(".")[0].isdigit()]
    return root / str(max(used, default=0) + 1)


def set_aside(folder: Path) -> Path:
    """Rename a damaged folder, keeping only the latest such for a look at it; the new name is returned."""
    drop_set_aside(folder.parent)
    folder.with_suffix(".closed").unlink(missing_ok=True)
    return folder.rename(folder.with_suffix(".damaged"))


def drop_set_aside(root: Path) -> None:
    """Delete what was set aside below `root`."""
    for folder in root.glob("*.damaged"):
        shutil.rmtree(folder, ignore_errors=True)


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


class ChromaIndex:
    """The open folder. Every method may raise whatever chromadb raises on a damaged one."""

    def __init__(self, folder: Path) -> None:
        folder.with_suffix(".closed").unlink(missing_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self.number = number_of(folder)
        hnsw_files.empty_unread(folder)
        self._client = chromadb.PersistentClient(path=str(folder), settings=QuietSettings())
        self._collections: dict[str, Any] = {}
        self._upserted: set[str] = set()
        self._writing = threading.RLock()  # what is written while files are emptied would be lost
        self.dropped: set[str] = set()

    def upsert(self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: NDArray[np.float32]) -> None:
        """Put vectors (n × dimensions) under their stamps, at most BATCH; those already there are replaced."""
        self.dropped.discard(name)
        with self._writing:
            self._collection(name).upsert(
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
        """The nearest vectors' stamps and cosines, nearest first; `user` narrows it to one user's."""
        found = self._collection(name).query(
            query_embeddings=[vector],
            n_results=count,
            where=None if user is None else {"user": user},
            include=["distances"],
        )
        stamps = [int(stamp) for stamp in found["ids"][0]]
        return stamps, 1 - np.array(found["distances"][0], dtype=np.float32)

    def stamps(self, name: str) -> list[int]:
        """Every stamp in the collection, in order."""
        return sorted(int(stamp) for stamp in self._collection(name).get(include=[])["ids"])

    def vectors(self, name: str, stamps: Sequence[int]) -> NDArray[np.float32]:
        """The vectors under these stamps, in their order (n × dimensions). Slow: 10,000 take 0.3 s."""
        found = self._collection(name).get(ids=[str(stamp) for stamp in stamps], include=["embeddings"])
        by_stamp = {int(stamp): place for place, stamp in enumerate(found["ids"])}
        matrix = np.array(found["embeddings"], dtype=np.float32)
        return matrix[[by_stamp[stamp] for stamp in stamps]]

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        """Take vectors out of a collection, at most BATCH."""
        with self._writing:
            self._collection(name).delete(ids=[str(stamp) for stamp in stamps])

    def empty_unread_files(self) -> None:
        """Have no file hold what Chroma wrote of the process's memory.

        Done by itself, but not when Chroma closed an index because too many were open, and began it anew.
        """
        with self._writing:
            hnsw_files.empty_unread(self.folder)

    def names(self) -> list[str]:
        """The collections there are."""
        return [collection.name for collection in self._client.list_collections()]

    def drop(self, names: set[str]) -> None:
        """Delete collections that are not live any more; they must not be asked again."""
        for name in names:
            self.dropped.add(name)
            self._upserted.discard(name)
            self._client.delete_collection(name)
            self._collections.pop(name, None)

    def close(self) -> None:
        """Close the folder."""
        self._collections.clear()
        self._client.close()  # type: ignore[attr-defined]  # the stub of the interface lacks it

    def note_closed(self, applied: Mapping[str, int]) -> None:
        """Note what is in the closed folder, and how far its collections are, so that the next start need not check."""
        with contextlib.suppress(OSError):
            self.folder.with_suffix(".closed").write_text(json.dumps(_note(self.folder, applied)))

    def _collection(self, name: str) -> Any:
        found = self._collections.get(name)
        if found is None:
            with self._writing:
                # Vectors always come from us: chromadb's default function would fetch a model.
                found = self._client.get_or_create_collection(
                    name, embedding_function=None, configuration={"hnsw": _HNSW}
                )
                found.get(limit=1, include=[])  # has Chroma open the collection's files
                self.empty_unread_files()
                self._collections[name] = found
        return found
