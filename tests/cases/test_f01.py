"""F1, A2 and, of A13, the files: a damaged spool file costs itself alone."""

import logging
import os
import random
import threading
import time
import warnings
from pathlib import Path

import pytest

import reflexio
from reflexio.cli.spool import main
from reflexio.spool import Spool, SpoolSettings, sender
from tests.cases.spool_files import DAMAGES, PAGE, append, change, leave, overwrite
from tests.client.scripted_server import KEY, ScriptedServer, eventually

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
NOWHERE = "http://127.0.0.1:1/"
NAMES = [f"r{n}" for n in range(40)]


def publish(client: reflexio.ReflexioClient, content: str) -> reflexio.PublishReceipt:
    return client.publish_interaction("ada", [{"content": content}])


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_new_client_delivers_all_else(
    scripted: ScriptedServer, spool_dir: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad = leave(spool_dir, scripted.url, *NAMES, size=3000)
    leave(spool_dir, scripted.url, "good")
    DAMAGES[damage](bad)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert publish(client, "own").wait(20).success
        eventually(lambda: "good" in scripted.requests)
        assert client.flush(20).delivered
        stats = client.stats()
        assert (stats.pending, stats.dead, stats.last_error) == (0, 0, "")
    assert os.path.lexists(bad), "it is left where it is"
    said = [record for record in caplog.records if bad.name in record.getMessage()]
    assert len(said) == 1
    assert said[0].levelno == logging.WARNING


@pytest.mark.parametrize(
    "damage", ["pages in the middle", "pages 4 and 5", "64 bytes of a late page", "an endless view"]
)
def test_a_running_client_goes_on(
    scripted: ScriptedServer, spool_dir: Path, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_ADOPTION_SECONDS", 0.1)
    bad = leave(tmp_path / "elsewhere", scripted.url, *NAMES, size=3000)
    DAMAGES[damage](bad)
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert publish(client, "1").wait(20).success
        os.rename(bad, spool_dir / bad.name)
        time.sleep(0.6)
        assert publish(client, "2").wait(20).success
        assert client.flush(20).delivered
        assert any(thread.name == "reflexio-sender" for thread in threading.enumerate())
    assert (spool_dir / bad.name).exists()


def test_what_can_be_read_is_delivered_wherever_64_bytes_are_overwritten(
    scripted: ScriptedServer, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}")
    chosen = random.Random(seed)
    names = [f"r{n}" for n in range(600)]
    missing = []
    for turn in range(15):
        folder = tmp_path / str(turn)
        path = leave(folder, scripted.url, *names, size=100)
        pages = path.stat().st_size // PAGE
        page = chosen.randrange(4, pages)  # those before hold the schema and the roots
        overwrite(path, page * PAGE + chosen.randrange(0, PAGE - 64), chosen.randbytes(64))
        scripted.requests.clear()
        with reflexio.ReflexioClient(KEY, scripted.url, spool_dir=folder) as client:
            result = client.flush(30)
            assert result.delivered, (turn, page, result)
        missing.append(len(names) - len(scripted.requests))
    print(f"missing {missing}")
    assert max(missing) <= 120, "a page costs its own rows, or those of its neighbour"


@pytest.mark.parametrize("version", [0, -5])
def test_a_file_that_only_lost_its_version_is_delivered(
    scripted: ScriptedServer, spool_dir: Path, version: int
) -> None:
    change(leave(spool_dir, scripted.url, *NAMES), f"PRAGMA user_version = {version}")
    with reflexio.ReflexioClient(KEY, scripted.url) as client:
        assert client.flush(20).delivered
    assert sorted(scripted.requests) == sorted(NAMES)
    assert os.listdir(spool_dir) == []


def test_the_command_tells_in_words(scripted: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    for damage in ("no database", "pages in the middle", "an endless view", "a fifo", "no dead"):
        folder = tmp_path / damage.replace(" ", "-")
        bad = leave(folder, scripted.url, *NAMES, size=3000)
        DAMAGES[damage](bad)
        for command in ("status", "flush", "dead", "export"):
            code, said = run(command, folder)
            assert code == 1 or (command, damage) == ("dead", "pages in the middle"), (damage, command, said)
            if code:
                assert bad.name in said
                assert "cannot be read" in said
            assert "Traceback" not in said
        assert os.path.lexists(bad)


def run(command: str, folder: Path) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("REFLEXIO_API_KEY", KEY)
        return captured(["--dir", str(folder), command])


def captured(arguments: list[str]) -> tuple[int, str]:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(arguments)
    return code, out.getvalue()


def test_the_file_of_this_process_may_be_damaged_too(scripted: ScriptedServer, spool_dir: Path) -> None:
    """Nothing is silent then: publishing raises, what is lost is counted, and what can be read is delivered."""
    scripted.stop()
    client = reflexio.ReflexioClient(KEY, scripted.url)
    receipts = [client.publish_interaction("ada", [{"content": f"{n} " + "x" * 3000}]) for n in range(60)]
    leave(spool_dir, scripted.url, "of another")
    (own,) = client._all_senders()
    with own.spool.changed:
        path = Path(own.spool.path)
        own.spool._own._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
        overwrite(path, path.stat().st_size // 2, random.Random(1).randbytes(40_000))
        own.spool._own._connection.execute("PRAGMA shrink_memory")  # type: ignore[union-attr]
        own.spool._own._connection.execute("PRAGMA cache_size = 1")  # type: ignore[union-attr]
    scripted.start()
    result = client.flush(20)
    eventually(lambda: "of another" in scripted.requests or client.flush(5).pending == 0 or own.spool.lost > 0)
    stats = client.stats()
    assert not result.delivered
    assert "damaged" in result.error
    assert "damaged" in stats.last_error
    eventually(lambda: all(receipt.done for receipt in receipts))
    lost = [receipt for receipt in receipts if isinstance(receipt._outcome.exception(), reflexio.SpoolError)]
    assert 0 < len(lost) < 40
    assert len(scripted.requests) >= len(receipts) - len(lost)
    client.close(0)
    assert path.exists()


def test_the_file_of_this_process_may_be_removed(scripted: ScriptedServer, spool_dir: Path) -> None:
    scripted.stop()
    client = reflexio.ReflexioClient(KEY, scripted.url)
    first = publish(client, "first")
    was = Path(client.stats().spool_path)
    for file in spool_dir.iterdir():
        file.unlink(missing_ok=True)  # one of SQLite's may be gone by itself
    second = publish(client, "second")
    assert client.stats().spool_path != str(was)
    assert Path(client.stats().spool_path).exists()
    scripted.start()
    assert first.wait(30).success
    assert second.wait(30).success
    client.close()
    assert list(spool_dir.iterdir()) == []


def test_reading_a_damaged_file_ends(tmp_path: Path) -> None:
    """Ids as far apart as they can be, and a size of a page that is none, keep nobody busy."""
    path = leave(tmp_path, NOWHERE, *NAMES, size=3000)
    change(path, "UPDATE rows SET id = 9223372036854775807 WHERE id = 40", "UPDATE rows SET id = 1 << 50 WHERE id = 39")
    overwrite(path, path.stat().st_size // 2, random.Random(3).randbytes(20_000))
    spool = Spool(SpoolSettings(tmp_path, NOWHERE, "testaccnt0"))
    begin = time.monotonic()
    spool.adopt()
    append(spool, "own")
    assert "own" in {row.request_id for row in spool.take(100, 1 << 20)}
    assert time.monotonic() - begin < 10
    spool.close()
