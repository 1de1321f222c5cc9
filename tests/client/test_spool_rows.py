import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reflexio.errors import QueueFullError
from reflexio.outcomes import Rejection
from reflexio.spool import Spool, SpoolSettings


@pytest.fixture(params=["disk", "memory"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Spool]:
    on_disk = SpoolSettings(tmp_path, "http://a:1/", "tag")
    spool = Spool(on_disk if request.param == "disk" else None)
    yield spool
    spool.close()


def test_rows_stay_until_they_are_deleted(spool: Spool) -> None:
    ids = [spool.append(f"r{i}", "ada", b"1234") for i in range(3)]
    assert [row.request_id for row in spool.take(10, 1000)] == ["r0", "r1", "r2"]
    assert [row.row_id for row in spool.take(10, 1000)] == ids
    assert (spool.pending(), spool.bytes) == (3, 12)
    spool.acknowledge(spool.take(2, 1000))
    assert [row.request_id for row in spool.take(10, 1000)] == ["r2"]
    assert (spool.pending("ada"), spool.pending("bob"), spool.bytes) == (1, 0, 4)


def test_a_batch_is_bounded_but_never_empty(spool: Spool) -> None:
    for _ in range(5):
        spool.append("r", "ada", b"x" * 10)
    assert len(spool.take(3, 1000)) == 3
    assert len(spool.take(10, 25)) == 2
    assert len(spool.take(10, 1)) == 1


def test_a_full_spool_refuses_and_keeps_what_it_has(tmp_path: Path) -> None:
    spool = Spool(SpoolSettings(tmp_path, "http://a:1/", "tag", max_items=2, max_bytes=10))
    spool.append("a", "ada", b"x" * 4)
    with pytest.raises(QueueFullError, match="1 requests and 4 bytes"):
        spool.append("b", "ada", b"x" * 7)
    spool.append("c", "ada", b"x")
    with pytest.raises(QueueFullError):
        spool.append("d", "ada", b"")
    assert [row.request_id for row in spool.take(10, 1000)] == ["a", "c"]


def test_postponed_rows_go_last_and_buried_ones_leave_their_reason(spool: Spool) -> None:
    spool.append("a", "ada", b"1")
    spool.append("b", "ada", b"1")
    first = spool.take(1, 1000)[0]
    assert spool.postpone(first) == 1
    assert [row.request_id for row in spool.take(10, 1000)] == ["b", "a"]
    assert spool.postpone(first) == 2
    spool.bury(first, Rejection(None, "a", "INVALID_FIELD", "", "no"))
    assert (spool.pending(), spool.bytes, spool.rejected) == (1, 1, 1)
    assert spool.rejections[0].request_id == "a"


def test_kept_rejections_are_bounded_but_all_are_counted(spool: Spool) -> None:
    for i in range(1_500):
        spool.append(str(i), "ada", b"")
        spool.bury(spool.take(1, 1)[0], Rejection(None, str(i), "", "", ""))
    assert (spool.rejected, len(spool.rejections), spool.rejections[-1].request_id) == (1_500, 1_000, "1499")


def test_waiting_is_for_what_was_pending_at_the_call(spool: Spool) -> None:
    spool.append("a", "ada", b"")
    spool.append("b", "bob", b"")
    assert spool.wait_for_user("nobody", 60) == 0
    assert spool.wait_for_user("ada", 0.01) == 1
    left: list[int] = []
    thread = threading.Thread(target=lambda: left.append(spool.wait_for_user("ada", 60)))
    thread.start()
    while not spool._watches:
        time.sleep(0.001)
    spool.append("later", "ada", b"")
    spool.acknowledge(spool.take(1, 1))
    thread.join(30)
    assert left == [0]
    assert spool.wait_for_user(None, 0.01) == 2


def test_nobody_waits_for_what_cannot_leave(spool: Spool) -> None:
    spool.append("a", "ada", b"")
    spool.stalled = True
    assert spool.wait_for_user("ada", 60) == 1
    assert spool._watches == []
