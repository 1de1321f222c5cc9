"""A15: of an erased request nothing stays from which its text could be guessed, on disk neither, and retries end."""

import hashlib
import importlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server.core import settling
from reflexio_server.storage.database import DATABASE_FILE
from reflexio_server.storage.sqlite import make_engine
from tests.state import is_settled, rows
from tests.support import Caller, LocalServer
from tests.wire import code_of, publish, wait_until
from tests.words import Words, use

pytestmark = pytest.mark.sqlite  # what is overwritten in its file

NOTHING = bytes(32)


@pytest.fixture
def server(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    use(monkeypatch, Words())
    monkeypatch.setattr(settling, "QUIET_SECONDS", 0.2)
    return start()


def hashes(data_dir: Path) -> dict[str, bytes]:
    return dict(rows(data_dir, "SELECT request_id, body_hash FROM requests"))


def migrate(data_dir: Path) -> None:
    """Take the one step again that overwrites them: later ones cannot be taken twice.

    It counts in the accounts, where later versions do not.
    """
    step = importlib.import_module("reflexio_server.storage.migrations.versions.0006_no_hash_of_erased")
    engine = make_engine(data_dir / DATABASE_FILE, begin="IMMEDIATE", connections=1)
    counted = "SELECT {0} FROM account_counters WHERE account_id = id"
    with engine.begin() as conn, Operations.context(MigrationContext.configure(conn)):
        for name in ("erased", "settled"):
            conn.exec_driver_sql(f"ALTER TABLE accounts ADD COLUMN {name} BIGINT")
            conn.exec_driver_sql(f"UPDATE accounts SET {name} = ({counted.format(name)})")
        step.upgrade()
        conn.exec_driver_sql(
            "UPDATE account_counters SET settled = (SELECT settled FROM accounts WHERE id = account_id)"
        )
        for name in ("erased", "settled"):
            conn.exec_driver_sql(f"ALTER TABLE accounts DROP COLUMN {name}")
    engine.dispose()


def everything_on_disk(data_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data_dir.glob("reflexio.db*"))


ERASE: dict[str, Callable[[Caller, str], Any]] = {
    "interaction": lambda caller, one: caller.delete_interaction(one),
    "request": lambda caller, _: caller.delete_request("gone"),
    "group": lambda caller, _: caller.delete_request_group("patient", "illness"),
    "user": lambda caller, _: caller.delete_user("patient"),
}


@pytest.mark.parametrize("by", ERASE)
def test_no_hash_of_it_stays_and_every_retry_is_refused(server: LocalServer, by: str) -> None:
    caller = server.new_caller()
    fields = {"request_id": "gone", "request_group": "illness"}
    (one,) = publish(caller, "patient", noun.InteractionData(content="HIV positive"), **fields).interaction_ids
    caller.publish("other", "stays", request_id="kept")
    before = hashes(server.data_dir)
    assert before["gone"] in everything_on_disk(server.data_dir), "else this would not find what is left either"
    ERASE[by](caller, one)
    after = hashes(server.data_dir)
    assert after == {"gone": NOTHING, "kept": before["kept"]}
    for content in ("HIV positive", "something else"):
        item = noun.InteractionData(content=content)
        refused = code_of(lambda item=item: publish(caller, "patient", item, **fields))  # type: ignore[misc]
        assert refused is grpc.StatusCode.ALREADY_EXISTS
    assert caller.publish("other", "stays", request_id="kept").interaction_ids
    wait_until(lambda: is_settled(server), "it to be overwritten")
    assert before["gone"] not in everything_on_disk(server.data_dir)
    assert before["kept"] in everything_on_disk(server.data_dir)


def test_what_was_erased_by_an_earlier_version_is_overwritten_too(
    tmp_path: Path, start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Words())
    monkeypatch.setattr(settling, "QUIET_SECONDS", 0.2)
    server = start(tmp_path / "data")
    caller = server.new_caller()
    erased = [f"erased {number}" for number in range(20)]
    for request_id in erased:
        caller.publish("patient", "said", request_id=request_id)
    caller.publish("other", "stays", request_id="kept")
    caller.delete_user("patient")
    wait_until(lambda: is_settled(server), "it to settle")
    server.stop()
    old = {request_id: hashlib.sha256(request_id.encode()).digest() for request_id in erased}
    with closing(sqlite3.connect(tmp_path / "data" / DATABASE_FILE)) as conn:
        for request_id, body_hash in old.items():
            conn.execute("UPDATE requests SET body_hash = ? WHERE request_id = ?", (body_hash, request_id))
        conn.commit()
    kept = hashes(tmp_path / "data")["kept"]
    migrate(tmp_path / "data")
    again = start(tmp_path / "data")
    assert hashes(tmp_path / "data") == {**dict.fromkeys(erased, NOTHING), "kept": kept}
    caller = Caller(again.address, caller.email, caller.api_key)
    assert code_of(lambda: caller.publish("patient", "said", request_id=erased[0])) is grpc.StatusCode.ALREADY_EXISTS
    time.sleep(0.1)
    wait_until(lambda: is_settled(again), "it to be overwritten")
    content = everything_on_disk(tmp_path / "data")
    assert [request_id for request_id, body_hash in old.items() if body_hash in content] == []
