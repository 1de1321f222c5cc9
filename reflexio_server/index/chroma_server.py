"""An index on a Chroma server, which may be shared, be away, and come back as another than it was.

Only collections whose names begin with `reflexio-`, the store's id and a number are touched. The number tells an index
from those before it: whatever is not as it was left is given up, and a new index with another number is built from SQL.
"""

import base64
import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from reflexio.supervised import say
from reflexio_server.index.chroma_http import ChromaHttp, Missing, Refused, ServerFailed
from reflexio_server.index.chroma_store import TokenUnusable
from reflexio_server.index.nearest import (
    BATCH,
    Damaged,
    Late,
    Live,
    Matrix,
    Outline,
    Stamps,
    Truth,
    Unavailable,
    are_equal,
)
from reflexio_server.shortage import tells_shortage

logger = logging.getLogger(__name__)

QUERY_SECONDS = 2.0
_READ_SECONDS = 10.0
_HNSW = {"space": "cosine", "ef_construction": 100, "ef_search": 400}  # as index/chroma.py has them
_CONFIGURATION = {"hnsw": _HNSW, "embedding_function": {"type": "legacy"}}
_NAMES_AT_ONCE, _IDS_AT_ONCE, _VECTORS_AT_ONCE = 10_000, 20_000, 500
_FAULTS = 3  # so many failures of the server at the same work, without a success, are no passing ones
_FIRST_SECOND = 1_735_689_600  # of 2025: numbers count from here, and so fit 32 bits


@dataclass(eq=False)
class ChromaServer:
    """The index engine on a server; see `nearest.Engine`.

    Attributes:
        url: of the server.
        tenant, database: there; they are made if they are not there.
        store: the store's id, see `store_id`.
        token: gives the token, None where none is needed; asked at each connection, so that it may change.
        unused: a folder of an index in the data directory, which is removed once there is one on the server.
    """

    url: str
    tenant: str
    database: str
    store: str
    token: Callable[[], str | None]
    unused: Path
    query_seconds: float = QUERY_SECONDS
    longest_pause: float = 10.0
    faults: Counter[str] = field(default_factory=Counter)

    def open(self, live: Sequence[Live], truth: Truth, stopping: Callable[[], bool]) -> "ServerIndex | None":
        if not live:
            return None
        numbers = {collection.folder for collection in live}
        if len(numbers) > 1:
            raise Damaged("its collections are of several indexes")
        index = self._connect(numbers.pop(), stopping)
        try:
            outlines = list(truth.outlines({collection.name for collection in live}))
            for outline in outlines:
                index.check(outline)
            # Whether it answers queries too is found out here, and not by those who search.
            for name, vector in [(one.name, vector) for one in outlines for vector in one.samples.values()][:1]:
                index.query(name, vector, 1)
        except BaseException:
            index.close()
            raise
        self._remove_unused()
        return index

    def begin(self, last: int, stopping: Callable[[], bool]) -> "ServerIndex":
        # By the clock, as `last` is that of a database which may be an older copy.
        index = self._connect(max(last + 1, int(time.time()) - _FIRST_SECOND), stopping)
        try:
            index.drop_others(self._prefix)
        except BaseException:
            index.close()
            raise
        self._remove_unused()
        return index

    def reading(self, number: int) -> "ServerIndex":
        return ServerIndex(self._http(lambda: False), number, self._prefix_of(number), Counter())

    def set_aside(self) -> None:
        """The next `begin` drops it."""

    def drop_set_aside(self) -> None: ...

    def have_checked(self) -> None:
        """It always is."""

    @property
    def _prefix(self) -> str:
        return f"reflexio-{self.store}-"

    def _prefix_of(self, number: int) -> str:
        return f"{self._prefix}{number}-"

    def _http(self, stopping: Callable[[], bool]) -> ChromaHttp:
        try:
            token = self.token()
        except TokenUnusable as error:
            raise Unavailable(str(error)) from None
        return ChromaHttp(self.url, self.tenant, self.database, token, stopping)

    def _connect(self, number: int, stopping: Callable[[], bool]) -> "ServerIndex":
        http = self._http(stopping)
        try:
            http.make_database()
        except BaseException:
            http.close()
            raise
        return ServerIndex(http, number, self._prefix_of(number), self.faults)

    def _remove_unused(self) -> None:
        if self.unused.exists():
            shutil.rmtree(self.unused, ignore_errors=True)


class ServerIndex:
    """An index of a store on a server; see `nearest.Index`."""

    def __init__(self, http: ChromaHttp, number: int, prefix: str, faults: Counter[str]) -> None:
        """`prefix`: of the names that its collections have there; `faults`: of the server so far, by the work."""
        self.number = number
        self.dropped: set[str] = set()
        self._http = http
        self._prefix = prefix
        self._faults = faults
        self._ids: dict[str, str] = {}
        self._written: str | None = None  # the collection that was written last
        self._looked = ""  # the one that was looked at in its turn last

    def query(
        self, name: str, vector: Matrix, count: int, user: int | None = None, timeout: float | None = None
    ) -> tuple[list[int], Matrix]:
        seconds = _READ_SECONDS if timeout is None else QUERY_SECONDS
        until = None if timeout is None else time.monotonic() + timeout
        asked: dict[str, Any] = {"query_embeddings": [vector.tolist()], "n_results": count, "include": ["distances"]}
        if user is not None:
            asked["where"] = {"user": user}
        try:
            path = self._path(name, seconds=seconds, within=timeout)
            left = None if until is None else max(0.0, until - time.monotonic())
            found = self._ask("POST", name, f"{path}/query", asked, seconds=seconds, within=left)
        except Damaged:
            if name in self.dropped:  # as it was asked
                raise Late from None
            raise
        stamps = [int(stamp) for stamp in found["ids"][0]]
        return stamps, 1 - np.array(found["distances"][0], dtype=np.float32)

    def upsert(self, name: str, stamps: Sequence[int], users: Sequence[int], matrix: Matrix, new: bool = True) -> None:
        self.dropped.discard(name)
        self._written = name
        content = {
            "ids": [str(stamp) for stamp in stamps],
            "embeddings": [_packed(vector) for vector in matrix],
            "metadatas": [{"user": int(user)} for user in users],
        }
        self._ask("POST", name, f"{self._path(name, new)}/upsert", content)

    def delete(self, name: str, stamps: Sequence[int]) -> None:
        self._written = name
        self._ask("POST", name, f"{self._path(name)}/delete", {"ids": [str(stamp) for stamp in stamps]})

    def stamps(self, name: str) -> Stamps:
        found: list[str] = []
        while True:
            asked = {"include": [], "limit": _IDS_AT_ONCE, "offset": len(found)}
            some = self._ask("POST", name, f"{self._path(name)}/get", asked)["ids"]
            found += some
            if len(some) < _IDS_AT_ONCE:
                return np.sort(np.array(found, dtype=np.int64))

    def vectors(self, name: str, stamps: Sequence[int]) -> Matrix:
        by_stamp: dict[int, list[float]] = {}
        for start in range(0, len(stamps), _VECTORS_AT_ONCE):
            ids = [str(stamp) for stamp in stamps[start : start + _VECTORS_AT_ONCE]]
            asked = {"ids": ids, "include": ["embeddings"]}
            found = self._ask("POST", name, f"{self._path(name)}/get", asked)
            by_stamp.update(zip(map(int, found["ids"]), found["embeddings"], strict=True))
        if not by_stamp.keys() >= set(stamps):
            raise Damaged(f"{name} lacks vectors")
        return np.array([by_stamp[stamp] for stamp in stamps], dtype=np.float32)

    def names(self) -> list[str]:
        return [name.removeprefix(self._prefix) for name in self._all() if name.startswith(self._prefix)]

    def drop(self, names: set[str]) -> None:
        self.dropped |= names
        for name in names:
            self._ids.pop(name, None)
            self._drop(f"{self._prefix}{name}")

    def drop_others(self, prefix: str) -> None:
        """Delete the collections whose names begin so and that are of another index."""
        for name in self._all():
            if name.startswith(prefix) and not name.startswith(self._prefix):
                self._drop(name)

    def check(self, outline: Outline) -> None:
        """See whether a collection is as it was left; raises Damaged.

        Vectors are put in in the order of their stamps, and what leaves never comes back. So a collection that has the
        newest of them, with no more and no fewer than it must, has the right ones; if it is of another store's life,
        such as that of a database that was replaced by an older copy, it has other vectors under their stamps.
        """
        name, samples = outline.name, outline.samples
        if samples and not are_equal(self.vectors(name, list(samples)), np.stack(list(samples.values()))):
            raise Damaged(f"{name} holds other vectors")
        if self._ask("GET", name, f"{self._path(name)}/count", seconds=_READ_SECONDS) != outline.count:
            self._compare(name, outline)

    def _compare(self, name: str, outline: Outline) -> None:
        """Take out what a batch left that was broken off; raises Damaged where more is wrong than that.

        What the database has is left, and looked at last: another leader may have put it in meanwhile, if this process
        stood still.
        """
        present = self.stamps(name)
        expected = outline.whole()
        extra = np.setdiff1d(present, np.append(expected.needed, expected.erased))
        if len(np.setdiff1d(expected.needed, present)) or len(extra) > BATCH:
            raise Damaged(f"{name} does not hold the vectors it must")
        gone = np.setdiff1d(extra, expected.stamps)
        if len(gone):
            self.delete(name, gone.tolist())

    def tend(self, truth: Truth) -> None:
        """An older copy of its data lacks what was written last; a look at each in turn finds other faults."""
        live = sorted(collection.name for collection in truth.live())
        following = next((name for name in live if name > self._looked), live[0] if live else "")
        for outline in truth.outlines({following, self._written or following}):
            self.check(outline)
        self._looked = following

    def close(self) -> None:
        self._http.close()

    def note_closed(self, applied: Mapping[str, int]) -> None:
        """Whoever opens it again cannot know what others did meanwhile."""

    def _path(self, name: str, new: bool = False, **limits: Any) -> str:
        """Of a collection, by the id that the server gave it."""
        found = self._ids.get(name)
        if found is None:
            whole = f"{self._prefix}{name}"
            path = f"{self._http.path}/collections"
            if new:
                wanted = {"name": whole, "configuration": _CONFIGURATION, "get_or_create": True}
                made = self._ask("POST", name, path, wanted)
            else:
                made = self._ask("GET", name, f"{path}/{quote(whole)}", **limits)
            found = self._ids[name] = str(made["id"])
        return f"{self._http.path}/collections/{found}"

    def _ask(self, method: str, name: str, path: str, content: Any = None, **limits: Any) -> Any:
        """What the server answers about a collection; without it the index is damaged."""
        work = f"{name} {path.rpartition('/')[2]}"
        with self._judged(work):
            answer = self._http.ask(method, path, content, **limits)
            self._faults.pop(work, None)
            return answer

    @contextmanager
    def _judged(self, work: str) -> Iterator[None]:
        try:
            yield
        except Missing:
            raise Damaged(f"{work.split()[0]} is gone") from None
        except Refused as error:
            if "quota" in str(error).lower():
                raise Unavailable(f"the server refused {work}: {error}") from None
            raise Damaged(f"the server refused {work}: {error}") from None
        except ServerFailed as error:
            self._faults[work] += not tells_shortage(str(error))
            if self._faults[work] >= _FAULTS:
                self._faults.clear()
                raise Damaged(f"the server failed {_FAULTS} times at {work}: {error}") from None
            raise

    def _all(self) -> Iterable[str]:
        """The names of all collections in the database, whosever."""
        found: list[str] = []
        while True:
            page = f"?limit={_NAMES_AT_ONCE}&offset={len(found)}"
            some = self._http.ask("GET", f"{self._http.path}/collections{page}")
            found += [collection["name"] for collection in some]
            if len(some) < _NAMES_AT_ONCE:
                return found

    def _drop(self, whole: str) -> None:
        assert whole.startswith("reflexio-")
        with suppress(Missing):
            self._http.ask("DELETE", f"{self._http.path}/collections/{quote(whole)}")
            say(logger.debug, "dropped the collection %s", whole)


def _packed(vector: Matrix) -> str:
    """As the server takes it in base64: a third of the size and half of the time of a list."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
