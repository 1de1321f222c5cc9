"""`power_child FOLDER SEED COUNT MODE`: writes by the server's own code while its writes are recorded.

Requests go to the file ACKNOWLEDGED when the writer says they are stored; MODE NORMAL is the control arm.
"""

import os
import random
import sys
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, text

from reflexio_server.core.accounts import new_account
from reflexio_server.model import NewInteraction, NewRequest, UserAction, body_hash
from reflexio_server.storage import sqlite
from reflexio_server.storage.accounts import add_account
from reflexio_server.storage.database import Database, own
from reflexio_server.storage.writer import Writer

ACKNOWLEDGED = "acknowledged"
ACCOUNT_ID = 1
THREADS = 4
_WORDS = "the cat sat on a mat and looked out of its window at rain falling over roofs of this old town".split()


def make_request(number: int, seed: int) -> NewRequest:
    """The same request for the same numbers, so that a repetition is a replay."""
    chosen = random.Random(f"{seed} {number}")
    items = tuple(
        NewInteraction(
            "User", " ".join(chosen.choices(_WORDS, k=chosen.randint(1, 60))), UserAction.NONE, "", "", None, n
        )
        for n in range(chosen.randint(1, 3))
    )
    user = f"user-{number % 7}"
    return NewRequest(f"request-{number}", user, "", "power", "", items, body_hash(user, "", "power", "", items))


def _publish(database: Database, seed: int, numbers: range, acknowledged: int) -> None:
    """Publish from several threads, two requests at a time, and write down what is acknowledged."""
    writer = Writer(database, 100)

    def loop(mine: range) -> None:
        for first in mine[::2]:
            together = [make_request(n, seed) for n in (first, first + THREADS) if n in numbers]
            for outcome in writer.publish(ACCOUNT_ID, together).result():
                os.write(acknowledged, f"{outcome.request_id}\n".encode())
            with database.read() as conn:
                conn.execute(text("SELECT count(*) FROM requests"))

    threads = [threading.Thread(target=loop, args=(numbers[n::THREADS],)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()


def _weaken() -> None:
    make = sqlite.make_engine

    def make_weak(*arguments: Any, **keywords: Any) -> Engine:
        engine = make(*arguments, **keywords)
        event.listen(engine, "connect", lambda conn, _: conn.execute("PRAGMA synchronous = NORMAL"))  # the last
        return engine

    sqlite.make_engine = make_weak


def main(folder: Path, seed: int, count: int, mode: str) -> None:
    if mode == "NORMAL":
        _weaken()
    acknowledged = os.open(folder / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with own(folder):
        # Opened twice: closing empties the log into the database and removes it, and another is made.
        for numbers in (range(count // 2), range(count // 2, count)):
            database = Database(folder, owner=True)
            if not numbers.start:
                with database.write() as conn:
                    add_account(conn, *new_account("power@example.com", "not of any use"), 1)
            _publish(database, seed, numbers, acknowledged)
            database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
