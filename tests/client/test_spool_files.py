"""Spool files: who may read them, what is in them, and what happens when the disk does not do its part."""

import logging
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import grpc
import pytest

import reflexio
from reflexio.ids import account_tag
from reflexio.spool import Spool, SpoolSettings
from reflexio.spool.folder import FileLock, default_folder
from tests.client.scripted_server import KEY, ScriptedServer, eventually, fail, info, make_key, verdict

STREAM = "PublishInteractionStream"
NOWHERE = "http://127.0.0.1:1/"


def settings(folder: Path, tag: str = "testaccnt0", max_items: int = 100) -> SpoolSettings:
    return SpoolSettings(folder, NOWHERE, tag, max_items=max_items)


def leave(folder: Path, *request_ids: str, address: str = NOWHERE) -> Path:
    """The file of a process that ended."""
    spool = Spool(SpoolSettings(folder, address, "testaccnt0"))
    for request_id in request_ids:
        spool.append(request_id, "ada", b"")
    path = Path(spool.path)
    spool.close()
    return path


def test_only_their_user_can_read_them_and_no_key_is_in_them(spool_dir: Path) -> None:
    client = reflexio.ReflexioClient(KEY, NOWHERE)
    client.publish_interaction("ada", [{"content": "x"}])
    assert stat.S_IMODE(spool_dir.stat().st_mode) == 0o700
    files = sorted(spool_dir.iterdir())
    assert {file.suffix for file in files} == {".spool", ".lock", ".spool-wal", ".spool-shm"}
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert KEY.encode() not in file.read_bytes()
        assert KEY[16:] not in file.name
        assert str(account_tag(KEY)) in file.name
    client.close(0)


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", str(tmp_path / "chosen"))
    assert default_folder() == tmp_path / "chosen"
    monkeypatch.delenv("REFLEXIO_SPOOL_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "reflexio" / "spool"
    with reflexio.ReflexioClient(KEY, NOWHERE, spool_dir=tmp_path / "given") as client:
        client.publish_interaction("ada", [{"content": "x"}])
        assert client.stats().spool_path.startswith(str(tmp_path / "given"))
        client.close(0)


def test_a_tag_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    client = reflexio.ReflexioClient(make_key("../../../x"), NOWHERE, spool_dir=tmp_path / "a" / "b")
    client.publish_interaction("ada", [{"content": "x"}])
    assert Path(client.stats().spool_path).resolve().parent == (tmp_path / "a" / "b").resolve()
    client.close(0)


def test_every_account_and_address_has_its_own(spool_dir: Path) -> None:
    names = {
        settings(spool_dir).prefix,
        settings(spool_dir, "otheraccnt").prefix,
        SpoolSettings(spool_dir, "http://b:1/", "testaccnt0").prefix,
    }
    assert len(names) == 3


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_durability(spool_dir: Path, durability: str, level: int) -> None:
    client = reflexio.ReflexioClient(KEY, NOWHERE, durability=durability)  # type: ignore[arg-type]
    client.publish_interaction("ada", [{"content": "x"}])
    (sender,) = client._senders.values()
    own = sender.spool._own
    assert own is not None
    assert own._connection.execute("PRAGMA synchronous").fetchone() == (level,)
    client.close(0)
    with pytest.raises(reflexio.ConfigurationError, match="durability"):
        reflexio.ReflexioClient(KEY, NOWHERE, durability="none")  # type: ignore[arg-type]


def test_without_a_disk_it_is_memory_and_says_so(
    server: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    client = reflexio.ReflexioClient(KEY, server.url, spool_dir=tmp_path / "file" / "spool")
    with pytest.warns(RuntimeWarning, match="in memory only") as caught:
        receipts = [client.publish_interaction("ada", [{"content": str(i)}]) for i in range(3)]
    assert len(caught) == 1
    assert [r.levelno for r in caplog.records if "in memory only" in r.message] == [logging.WARNING]
    assert all(receipt.wait(30).success for receipt in receipts)
    stats = client.stats()
    assert (stats.durable, stats.spool_path) == (False, "")
    server.always(STREAM, fail(grpc.StatusCode.UNAVAILABLE))
    client.publish_interaction("ada", [{"content": "x"}])
    client.close(0.1)
    assert "They are lost" in capsys.readouterr().err


def test_a_full_disk_raises_and_takes_nothing(spool_dir: Path) -> None:
    spool = Spool(settings(spool_dir))
    spool.append("first", "ada", b"x")
    assert spool._own is not None
    spool._own._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(reflexio.SpoolError, match=r"huge was not accepted: .* disk is full"):
        spool.append("huge", "ada", b"x" * 100_000)
    assert [row.request_id for row in spool.take(10, 1000)] == ["first"]
    assert (spool.pending(), spool.bytes) == (1, 1)
    spool.append("small", "ada", b"x")
    spool.close()


def test_what_cannot_be_deleted_is_not_sent_again_and_deleted_later(spool_dir: Path) -> None:
    spool = Spool(settings(spool_dir))
    for name in ("a", "b"):
        spool.append(name, "ada", b"x")
    assert spool._own is not None
    connection = spool._own._connection
    connection.execute("PRAGMA query_only = 1")
    spool.acknowledge(spool.take(1, 1000))
    assert [row.request_id for row in spool.take(10, 1000)] == ["b"]
    connection.execute("PRAGMA query_only = 0")
    spool.acknowledge(spool.take(1, 1000))
    assert spool.close() == 0
    assert os.listdir(spool_dir) == []


def test_a_newer_version_is_left_alone_with_one_warning(spool_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = leave(spool_dir, "r")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    spool = Spool(settings(spool_dir))
    with pytest.warns(RuntimeWarning, match="left alone") as caught:
        assert [spool.adopt(), spool.adopt()] == [0, 0]
    assert len(caught) == 1
    assert path.exists()


def test_a_damaged_file_is_left_where_it_is_and_costs_nothing_else(spool_dir: Path) -> None:
    good = leave(spool_dir, "r")
    bad = leave(spool_dir, "s")
    bad.write_bytes(b"no database at all" * 1000)
    spool = Spool(settings(spool_dir))
    with pytest.warns(RuntimeWarning, match="cannot be read"):
        assert spool.adopt() == 1
    assert [row.home.path for row in spool.take(9, 99)] == [good]
    spool.close()
    assert bad.exists()


def test_a_file_whose_maker_died_at_once_is_cleared_away(spool_dir: Path) -> None:
    spool_dir.mkdir()
    settings(spool_dir).new_path().touch()
    spool = Spool(settings(spool_dir))
    assert spool.adopt() == 0
    assert spool.adopt() == 0
    assert os.listdir(spool_dir) == []


def test_a_held_lock_keeps_others_away(spool_dir: Path) -> None:
    path = leave(spool_dir, "r")
    lock = FileLock.take(path)
    assert lock is not None
    assert FileLock.take(path) is None
    spool = Spool(settings(spool_dir))
    assert spool.adopt() == 0
    lock.release(remove=False)
    assert spool.adopt() == 1
    assert Spool(settings(spool_dir)).adopt() == 0
    spool.close()


def test_adopted_requests_count_towards_the_limit(spool_dir: Path) -> None:
    leave(spool_dir, "a", "b", "c")
    spool = Spool(settings(spool_dir, max_items=4))
    assert spool.adopt() == 3
    spool.append("d", "ada", b"")
    with pytest.raises(reflexio.QueueFullError, match="the spool is full: 4 requests"):
        spool.append("e", "ada", b"")
    spool.close()


def test_many_orphans_come_some_at_a_time_and_all_of_them(server: ScriptedServer, spool_dir: Path) -> None:
    for n in range(40):
        leave(spool_dir, f"r{n}", address=server.url)
    with reflexio.ReflexioClient(KEY, server.url) as client:
        assert client.flush(60).delivered
        assert client.stats().adopted == 40
    assert os.listdir(spool_dir) == []


def test_refused_requests_are_kept_with_their_reason_and_move_on_with_the_next_process(
    server: ScriptedServer, spool_dir: Path
) -> None:
    server.script(STREAM, verdict(0, 0, (0, "INVALID_FIELD")))
    with reflexio.ReflexioClient(KEY, server.url) as client:
        refused = client.publish_interaction("ada", [{"content": "bad"}])
        assert client.flush(30).delivered
        assert client.stats().dead == 1
        first = client.stats().spool_path
    assert Path(first).exists()
    with reflexio.ReflexioClient(KEY, server.url) as client:
        client.publish_interaction("ada", [{"content": "good"}]).wait(30)
        eventually(lambda: client.flush(1).delivered and not Path(first).exists())
        assert client.stats().dead == 1
        second = client.stats().spool_path
    with closing(sqlite3.connect(second)) as connection:
        (dead,) = connection.execute("SELECT request_id, reason, field, message, refused_at > 0 FROM dead")
    assert dead == (refused.request_id, "INVALID_FIELD", "interactions", "refused 0", 1)
    assert server.stored_contents() == ["good"]


def test_on_delivery_hears_of_everything_and_may_fail(
    server: ScriptedServer, spool_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[reflexio.Delivery] = []

    def hear(delivery: reflexio.Delivery) -> None:
        heard.append(delivery)
        raise LookupError("theirs")

    server.script(STREAM, verdict(0, 0, (0, "INVALID_FIELD")))
    with reflexio.ReflexioClient(KEY, server.url, on_delivery=hear) as client:
        bad = client.publish_interaction("ada", [{"content": "bad"}])
        client.flush(30)
        good = client.publish_interaction("bob", [{"content": "good"}])
        client.flush(30)
    assert [(d.request_id, d.user_id, d.stored, d.adopted) for d in heard] == [
        (bad.request_id, "ada", False, False),
        (good.request_id, "bob", True, False),
    ]
    assert isinstance(heard[0].error, reflexio.InvalidArgumentError)
    assert sum("on_delivery failed" in record.message for record in caplog.records) == 2


def test_an_adopter_with_another_key_of_the_account_delivers(server: ScriptedServer, spool_dir: Path) -> None:
    server.always(STREAM, fail(grpc.StatusCode.UNAUTHENTICATED, "revoked", info("UNAUTHENTICATED")))
    client = reflexio.ReflexioClient(KEY, server.url)
    client.publish_interaction("ada", [{"content": "x"}])
    client.close(0.2)
    server.always(STREAM, None)
    with reflexio.ReflexioClient(make_key(fill="t"), server.url) as client:
        assert client.flush(30).delivered
    assert server.stored_contents() == ["x"]
