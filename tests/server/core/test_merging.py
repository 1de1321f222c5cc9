"""The full text is merged while nobody writes, and says the same in fewer pieces."""

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reflexio_server.core.merging import FEW, Merging
from reflexio_server.model import NewInteraction, NewRequest, UserAction
from reflexio_server.storage import full_text
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database
from reflexio_server.storage.writer import Writer

pytestmark = pytest.mark.sqlite  # PostgreSQL takes up what is new by itself

WORDS = [f"word{number}" for number in range(50)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path, owner=True, readers=2)
    with opened.write() as conn:
        add_account(conn, "a@example.com", "a" * 10, "hash", 1)
    yield opened
    opened.close()


def publish(writer: Writer, number: int) -> None:
    items = tuple(NewInteraction("User", " ".join(WORDS[n:]), UserAction.NONE, "", "", None, None) for n in range(50))
    writer.publish(1, [NewRequest(f"r{number}", "u", "", "", "", items, bytes(32))]).result()


def found(database: Database) -> tuple[int, list[list[int]]]:
    with database.read() as conn:
        matches = full_text.matches(conn, 1, None, dict.fromkeys(WORDS, ""), 10_000)
        return full_text.pieces(conn), [match.refs.tolist() for match in matches]


def fill(database: Database, writer: Writer) -> list[list[int]]:
    number = 0
    while found(database)[0] <= FEW:
        publish(writer, number)
        number += 1
        assert number < 500
    return found(database)[1]


def test_the_pieces_are_one_and_have_the_same_words(database: Database) -> None:
    with closing(Writer(database, 10)) as writer:
        before = fill(database, writer)
        Merging(database, writer)._look()
        assert found(database) == (1, before)
        with database.write() as conn:
            conn.exec_driver_sql("INSERT INTO full_text (full_text) VALUES ('integrity-check')")


def test_it_gives_way_to_who_writes(database: Database) -> None:
    with closing(Writer(database, 10)) as writer:
        before = fill(database, writer)
        pieces = found(database)[0]
        busy, go_on = threading.Event(), threading.Event()

        def hold(_conn: object) -> None:
            busy.set()
            go_on.wait(30)

        holding = writer.submit(hold)
        assert busy.wait(30)
        waiting = writer.submit(lambda _: None)
        Merging(database, writer)._look()
        go_on.set()
        holding.result()
        waiting.result()
        assert found(database) == (pieces, before)
