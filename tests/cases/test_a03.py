"""A3: what was erased does not come back: a delete goes after everything that ended processes have left, however many
files that is and whatever the clock says."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest

import reflexio
from reflexio.spool import Spool, SpoolSettings
from reflexio.spool.file import SpoolFile
from reflexio.spool.sender import Sender
from reflexio.v1 import interaction_service_pb2 as pb
from tests.cases.spool_files import append, change, leave
from tests.client.scripted_server import KEY, ScriptedServer, publish_stream

HOUR = 3_600_000_000


def left_by_many(folder: Path, server: ScriptedServer, number: int) -> None:
    for n in range(number):
        leave(folder, server.url, f"r{n}", user_id="X")


def test_more_files_than_are_adopted_at_a_time(scripted: ScriptedServer, spool_dir: Path) -> None:
    left_by_many(spool_dir, scripted, 24)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert client.delete_user("X").wait(60).requests == 24
        client.publish_interaction("X", [{"content": "after"}])
        assert client.flush(60).delivered
        assert client.stats().adopted == 24
    assert scripted.stored_contents() == ["after"]
    assert list(spool_dir.iterdir()) == []


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_delete_that_waits_reads_all_of_them_too(scripted: ScriptedServer, spool_dir: Path, kind: str) -> None:
    left_by_many(spool_dir, scripted, 24)
    if kind == "sync":
        with reflexio.ReflexioClient(KEY, scripted.url) as client:
            assert client.delete_user("X", True, timeout=60).requests == 24
    else:

        async def story() -> None:
            async with reflexio.AsyncReflexioClient(KEY, scripted.url) as client:
                assert (await client.delete_user("X", True, timeout=60)).requests == 24

        asyncio.run(story())
    assert scripted.stored_contents() == []


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("number", [1, 17, 40])
def test_what_the_thread_that_delivers_takes_over_meanwhile(
    scripted: ScriptedServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    """It looks around just before the delete does, and what it took is on its way for a while."""
    adopt = Sender.adopt

    def just_before(sender: Sender) -> int:
        sender.spool.adopt()
        return adopt(sender)

    def slowly(requests: list[pb.PublishInteractionsRequest], _context: object) -> object:
        time.sleep(0.2)
        return publish_stream(scripted, requests)

    monkeypatch.setattr(Sender, "adopt", just_before)
    scripted.always("PublishInteractionStream", slowly)
    client = reflexio.ReflexioClient(KEY, scripted.url)
    client.publish_interaction("Y", [{"content": "own"}]).wait(20)
    left_by_many(spool_dir, scripted, number)
    if kind == "sync":
        assert client.delete_user("X", True, timeout=60).requests == number
    else:
        left = asyncio.run(delete_awaited(scripted.url))
        assert left == number
    client.close()
    assert set(scripted.stored_contents()) == {"own"}


async def delete_awaited(url: str) -> int:
    async with reflexio.AsyncReflexioClient(KEY, url) as client:
        await client.publish_interaction("Y", [{"content": "own"}], wait_for_response=True)
        return (await client.delete_user("X", True, timeout=60)).requests


def test_a_delete_waits_for_a_file_that_cannot_be_read_just_now(
    scripted: ScriptedServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at an error of the disk: it may hold what the delete would overtake."""
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        client.publish_interaction("X", [{"content": "own"}]).wait(20)
        left_by_many(spool_dir, scripted, 1)
        with monkeypatch.context() as failing:
            failing.setattr(
                SpoolFile, "trouble", property(lambda _: "disk I/O error", lambda _self, _to: None), raising=False
            )
            with pytest.raises(reflexio.DeadlineExceededError, match=r"nothing was deleted.*disk I/O error"):
                client.delete_user("X", True, timeout=0.5)
        assert client.delete_user("X", True, timeout=60).requests == 2


def test_files_that_come_after_the_client_are_read_before_it_goes(scripted: ScriptedServer, spool_dir: Path) -> None:
    client = reflexio.ReflexioClient(KEY, scripted.url)
    client.publish_interaction("X", [{"content": "own"}]).wait(20)
    left_by_many(spool_dir, scripted, 3)
    assert client.delete_user("X").wait(60).requests == 4
    left_by_many(spool_dir, scripted, 2)
    fresh = [f"s{n}" for n in range(2)]
    leave(spool_dir, scripted.url, *fresh, user_id="X")
    assert client.delete_user("X", True, timeout=60).requests == 2, "the repeats of what is erased are refused"
    client.close()
    assert scripted.stored_contents() == []


@pytest.mark.parametrize("hours", [-48, -1, 1, 48])
@pytest.mark.parametrize("when", ["before the client", "before the delete", "after the delete"])
def test_whatever_the_clock_says(scripted: ScriptedServer, spool_dir: Path, hours: int, when: str) -> None:
    """The clock was set back, or forward, between an ended process and this one."""

    def past() -> None:
        change(
            leave(spool_dir, scripted.url, "r1", "r2", user_id="X"),
            f"UPDATE rows SET accepted_at = accepted_at + {hours * HOUR}",
        )

    if when == "before the client":
        past()
    scripted_was_up = when != "after the delete"
    if not scripted_was_up:
        scripted.stop()
    client = reflexio.ReflexioClient(KEY, scripted.url)
    if when == "before the delete":
        client.publish_interaction("X", [{"content": "own"}]).wait(20)
        past()
    if not scripted_was_up:
        past()  # it is read only after the delete was accepted
        client._all_senders()
    receipt = client.delete_user("X")
    client.publish_interaction("X", [{"content": "after"}])
    if not scripted_was_up:
        scripted.start()
    assert receipt.wait(60).requests >= 2
    assert client.flush(60).delivered
    client.close()
    assert scripted.stored_contents() == ["after"]


def test_the_clock_of_this_process_is_set_back(
    scripted: ScriptedServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(spool_dir, scripted.url, "r1", user_id="X")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        client.publish_interaction("X", [{"content": "own"}])
        assert client.delete_user("X").wait(60).requests == 2
        client.publish_interaction("X", [{"content": "after"}])
        assert client.flush(20).delivered
    assert scripted.stored_contents() == ["after"]


@pytest.mark.parametrize("order", list(itertools.permutations(["first", "second", "third"])))
def test_a_file_in_which_the_clock_went_back(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Of the version before, which did not see to it that moments grow."""
    moments = {"first": 0, "second": HOUR, "third": 2 * HOUR}
    path = leave(tmp_path, "http://a:1/", *order)
    for name in order:
        change(path, f"UPDATE rows SET accepted_at = 1700000000000000 + {moments[name]} WHERE request_id = '{name}'")
    other = leave(tmp_path, "http://a:1/", "delete other")
    change(other, f"UPDATE rows SET accepted_at = 1700000000000000 + {HOUR} + 1")
    spool = Spool(SpoolSettings(tmp_path, "http://a:1/", "testaccnt0"))
    assert spool.adopt() == 4
    went = drain(spool)
    before = went[: went.index("delete other")]
    assert before == (["first", "second"] if list(order) == sorted(order) else list(order))
    spool.close()


def drain(spool: Spool) -> list[str]:
    went = []
    while batch := spool.take(10, 10_000):
        went += [row.request_id for row in batch]
        if batch[0].is_delete:
            spool.complete(batch[0])
        else:
            spool.acknowledge(batch)
    return went


def test_what_comes_later_stays_though_the_delete_is_of_the_future(tmp_path: Path) -> None:
    """An ended process, whose clock was an hour ahead, left a delete: this one's publishes come after it."""
    change(leave(tmp_path, "http://a:1/", "r", "delete it"), f"UPDATE rows SET accepted_at = accepted_at + {HOUR}")
    spool = Spool(SpoolSettings(tmp_path, "http://a:1/", "testaccnt0"))
    assert spool.adopt() == 2
    append(spool, "own")
    assert drain(spool) == ["r", "delete it", "own"]
    spool.close()


def test_a_moment_beyond_all_reason_ends_nothing(tmp_path: Path) -> None:
    path = leave(tmp_path, "http://a:1/", "r", "delete it", "s")
    change(path, "UPDATE rows SET accepted_at = 9223372036854775807")
    spool = Spool(SpoolSettings(tmp_path, "http://a:1/", "testaccnt0"))
    assert spool.adopt() == 3
    append(spool, "own")
    append(spool, "delete own")
    assert sorted(drain(spool)) == sorted(["r", "delete it", "s", "own", "delete own"])
    spool.close()


def test_a_file_with_nothing_to_go_before_it_is_given_back(tmp_path: Path) -> None:
    """However many there are, no more files stay open than need to."""
    spool = Spool(SpoolSettings(tmp_path, "http://a:1/", "testaccnt0"))
    append(spool, "delete own")
    for n in range(30):
        leave(tmp_path, "http://a:1/", f"r{n}")
    (delete,) = spool.take(10, 1000)
    assert not spool.read_before(delete)
    assert spool._orphans == []
    assert spool.adopt() == 16
    assert spool.unread
    spool.close()
