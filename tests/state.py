"""What a server holds and still has to do, as a test looks at it from beside."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from click.testing import CliRunner

from reflexio_server.cli.main import main
from reflexio_server.index.chroma_folder import CHROMA_FOLDER
from reflexio_server.storage import collections, waiting
from reflexio_server.storage.database import DATABASE_FILE
from reflexio_server.storage.settling import unsettled_accounts
from tests import stores
from tests.support import LocalServer
from tests.wire import wait_until


def rows(data_dir: Path, query: str, *values: Any) -> list[Any]:
    """What SQL says of the database of a data directory; values stand for `?`."""
    with _executed(data_dir, query, values) as found:
        return list(found)


def change(data_dir: Path, statement: str, *values: Any) -> int:
    """Change the database of a data directory beside what uses it; how many rows that were."""
    with _executed(data_dir, statement, values) as done:
        return int(done.rowcount)


@contextmanager
def _executed(data_dir: Path, statement: str, values: tuple[Any, ...]) -> Iterator[Any]:
    if stores.databases is not None:
        with psycopg.connect(stores.databases.of(data_dir)) as other:
            yield other.execute(statement.replace("?", "%s").encode(), values)
    else:
        with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn, conn:
            yield conn.execute(statement, values)


def copy_store(data_dir: Path, to: Path) -> None:
    """Copy a data directory that nobody uses, with its database."""
    shutil.copytree(data_dir, to)
    if stores.databases is not None:
        stores.databases.copy(data_dir, to)


def put_back_database(copy: Path, data_dir: Path) -> None:
    """Let a data directory have the database of a copy: all else in it, as the index, is newer then."""
    if stores.databases is not None:
        stores.databases.copy(copy, data_dir)
        return
    for old in data_dir.glob(f"{DATABASE_FILE}*"):
        old.unlink()
    for file in copy.glob(f"{DATABASE_FILE}*"):
        shutil.copy(file, data_dir)


def found_in(data_dir: Path, texts: list[str]) -> dict[str, str]:
    """Which of these stand in which file."""
    contents: dict[Path, bytes] = {}
    for path in data_dir.rglob("*"):
        with suppress(FileNotFoundError):  # a journal that is gone again
            if path.is_file():
                contents[path] = path.read_bytes()
    return {
        text: str(path.relative_to(data_dir))
        for text in texts
        for path, data in contents.items()
        if text.encode() in data
    }


def folders(data_dir: Path) -> list[str]:
    """The index's folders, those set aside included."""
    return sorted(path.name for path in (data_dir / CHROMA_FOLDER).iterdir() if path.is_dir())


def indexes(data_dir: Path) -> list[str]:
    """The folders of files that Chroma has for its collections."""
    return sorted(path.name for path in (data_dir / CHROMA_FOLDER).glob("*/*") if path.is_dir())


def is_settled(server: LocalServer) -> bool:
    """Whether what was erased is overwritten."""
    with server.app.database.read() as conn:
        return not unsettled_accounts(conn)


def has_followed(server: LocalServer) -> bool:
    """Whether the index is open, no row waits for its vector, and no vector for the index."""
    if not server.app.follower.is_open:  # looked at first: what it holds may be forgotten before it is opened
        return False
    with server.app.database.read() as conn:
        return not waiting.first(conn) and not collections.lagging_accounts(conn, server.live_model())


def wait_for_index(server: LocalServer) -> None:
    wait_until(lambda: has_followed(server), "the index to be complete")


def index_command(server: LocalServer, name: str) -> str:
    done = CliRunner().invoke(main, ["index", name, "--data-dir", str(server.data_dir)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout
