"""A10 and B15: the thread that delivers rests when it can do nothing: with a full disk, and beside files of others."""

import time
from pathlib import Path

import pytest

import reflexio
from reflexio.spool import Spool, outbox
from tests.cases.spool_files import leave
from tests.client.scripted_server import KEY, ScriptedServer, eventually


@pytest.mark.parametrize("full", ["PRAGMA query_only = 1", "PRAGMA max_page_count = 1"])
def test_a_full_disk_at_the_acknowledgement(scripted: ScriptedServer, full: str) -> None:
    scripted.stop()
    client = reflexio.ReflexioClient(KEY, scripted.url)
    receipts = [client.publish_interaction("ada", [{"content": "x" * 500}]) for n in range(300)]
    (sender,) = client._all_senders()
    own = sender.spool._own
    assert own is not None
    with sender.spool.changed:
        own._connection.execute("PRAGMA query_only = 1")
    scripted.start()
    assert all(receipt.wait(30).success for receipt in receipts)
    assert client.flush(20).delivered
    assert "cannot be removed from the spool file" in client.stats().last_error
    calls, began = scripted.count("PublishInteractionStream"), time.process_time()
    time.sleep(1.5)
    assert time.process_time() - began < 0.35, "it spins"
    assert scripted.count("PublishInteractionStream") == calls
    with sender.spool.changed:
        own._connection.execute("PRAGMA query_only = 0")
    assert client.publish_interaction("ada", [{"content": "later"}]).wait(30).success
    time.sleep(1.1)
    assert client.publish_interaction("ada", [{"content": "later"}]).wait(30).success
    eventually(lambda: client.stats().last_error == "")
    client.close()
    assert len(scripted.stored_contents()) == 302


def test_b15_the_folder_is_read_now_and_then_only(
    scripted: ScriptedServer, spool_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    adopt = Spool.adopt

    def counted(self: Spool) -> int:
        looks.append(self)
        return adopt(self)

    leave(spool_dir, scripted.url, "r")
    monkeypatch.setattr(outbox.Spool, "adopt", counted)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        eventually(lambda: client.stats().delivered == 1)
        for n in range(30):
            assert client.publish_interaction("ada", [{"content": str(n)}]).wait(20).success
        assert len(looks) <= 4
        eventually(lambda: len(list(spool_dir.glob("*.spool"))) == 1)


def test_q38_many_small_files_share_their_streams(scripted: ScriptedServer, spool_dir: Path) -> None:
    """Questionable 38."""
    for n in range(64):
        leave(spool_dir, scripted.url, f"r{n}")
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert client.flush(60).delivered
        assert client.stats().adopted == 64
    assert scripted.count("PublishInteractionStream") <= 16
    assert list(spool_dir.iterdir()) == []
