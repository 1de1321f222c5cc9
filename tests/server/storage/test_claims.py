"""What is being embedded is left alone by others, of this process and of every other one on the same database."""

import subprocess
import sys
from pathlib import Path

import pytest

from reflexio_server.errors import DatabaseUnavailable
from reflexio_server.storage.database import Database
from reflexio_server.storage.postgres_claims import MOST
from reflexio_server.storage.store import OwnClaims
from tests import stores
from tests.wire import wait_until
from tools.postgres_run import Cluster

HOLDER = """
import sys, time
from pathlib import Path
from reflexio_server.storage.database import Database
database = Database(Path(sys.argv[1]), owner=False, url=sys.argv[2])
print(len(database.claims.take(range(1, 11))), flush=True)
time.sleep(60)
"""


def let_wait(database: Database, count: int) -> None:
    with database.write() as conn:
        sql = f"INSERT INTO waiting (id, account_id, user_ref) SELECT i, 1, 1 FROM generate_series(1, {count}) AS g(i)"
        conn.exec_driver_sql(sql)


def test_in_one_process_each_row_is_claimed_once() -> None:
    claims = OwnClaims()
    assert claims.take([1, 2, 3]) == {1, 2, 3}
    assert claims.take([3, 4]) == {4}
    claims.release([3])
    assert claims.take([3, 4]) == {3}


def test_what_another_process_has_claimed_is_free_when_it_is_killed(
    databases: stores.Databases, tmp_path: Path
) -> None:
    url = databases.of(tmp_path)
    database = Database(tmp_path, owner=True, url=url)
    let_wait(database, 20)
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path, url], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "10\n"
        assert database.claims.take(range(6, 16)) == {11, 12, 13, 14, 15}
        assert database.claims.take(range(6, 16)) == set()
        holder.kill()
        holder.wait(30)
        wait_until(lambda: 6 in database.claims.take([6]), "its session to end")
        assert database.claims.take(range(1, 21)) == set(range(1, 21)) - {6, *range(11, 16)}
        database.claims.release(range(1, 21))
        assert database.claims.take([3, 21]) == {3}, "what does not wait is nothing to claim"
    finally:
        holder.kill()
        holder.wait(30)
        database.close()


def test_more_than_a_process_may_claim_are_its_own_all_the_same(databases: stores.Databases, tmp_path: Path) -> None:
    url = databases.of(tmp_path)
    one, other = Database(tmp_path, owner=True, url=url), Database(tmp_path, owner=False, url=url)
    let_wait(one, MOST + 100)
    every = range(1, MOST + 101)
    assert one.claims.take(every) == set(every)
    assert one.claims.take(every) == set()
    assert other.claims.take(every) == set(range(MOST + 1, MOST + 101)), "may be made twice, and are stored once"
    one.claims.release(every)
    assert other.claims.take(every) == set(range(1, MOST + 1))
    one.close()
    other.close()


def test_claims_are_lost_with_the_server_and_taken_anew(tmp_path: Path) -> None:
    cluster = Cluster()
    try:
        database = Database(tmp_path, owner=True, url=cluster.new())
        let_wait(database, 3)
        assert database.claims.take([1]) == {1}
        cluster.stop()
        with pytest.raises(DatabaseUnavailable):
            database.claims.take([2])
        database.claims.release([1])
        cluster.start()
        assert database.claims.take([1, 2]) == {1, 2}
        database.close()
    finally:
        cluster.close()
