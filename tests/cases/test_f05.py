"""F5: nothing is logged, warned or called back while a lock of ours is held, so that logging into the client cannot
stand still."""

import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import reflexio
from reflexio.spool import sender
from tests.cases.spool_files import DAMAGES, change, leave
from tests.client.scripted_server import KEY, ScriptedServer, eventually, verdict

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def test_nothing_is_said_while_the_lock_is_held(
    scripted: ScriptedServer, spool_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_ADOPTION_SECONDS", 0.1)
    held: list[str] = []
    said: list[str] = []

    def look(what: str) -> None:
        said.append(what)
        for client in clients:
            for one in client._senders.values():
                free = one.spool.changed.acquire(blocking=False)  # by whom it is held it can be taken again, though
                if free:
                    one.spool.changed.release()
                try:
                    one.spool.changed.notify(0)
                    held.append(what)
                except RuntimeError:
                    pass

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            look(record.getMessage())

    def warned(message: Any, *_: object, **__: object) -> None:
        look(str(message))

    monkeypatch.setattr(warnings, "showwarning", warned)
    monkeypatch.setattr(sys.stderr, "write", look, raising=False)
    logger, handler = logging.getLogger("reflexio"), Handler()
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    clients: list[reflexio.ReflexioClient] = []
    try:
        client = reflexio.ReflexioClient(KEY, scripted.url, on_delivery=lambda d: look(f"told {d.method}"))
        clients.append(client)
        scripted.script("PublishInteractionStream", verdict(0, 0, (0, "INVALID_FIELD")))
        client.publish_interaction("u", [{"content": "refused"}])
        client.flush(20)
        scripted.stop()
        client.delete_user("u")
        eventually(lambda: bool(client.stats().last_error))
        scripted.start()
        assert client.flush(20).delivered
        for damage in ("no database", "pages in the middle", "a fifo"):
            bad = leave(tmp_path / "x", scripted.url, *[f"r{n}" for n in range(40)], size=3000)
            DAMAGES[damage](bad)
            os.rename(bad, spool_dir / bad.name)
            eventually(lambda bad=bad: any(bad.name in text for text in said))  # type: ignore[misc]
        newer = leave(tmp_path / "x", scripted.url, "r")
        change(newer, "PRAGMA user_version = 9")
        os.rename(newer, spool_dir / newer.name)
        eventually(lambda: any(newer.name in text for text in said))
        (tmp_path / "file").write_text("")
        memory = reflexio.ReflexioClient(KEY, scripted.url, spool_dir=tmp_path / "file" / "x")
        clients.append(memory)
        memory.publish_interaction("u", [{"content": "x"}])
        scripted.stop()
        client.publish_interaction("u", [{"content": "x"}])
        client.close(0.2)
        memory.close(0.2)
    finally:
        logger.removeHandler(handler)
    assert not held
    text = "\n".join(said)
    for expected in ("again", "was refused", "left alone", "damaged", "in memory only", "told delete_user", "INVALID"):
        assert expected in text, expected


STORY = """
    import faulthandler, logging, sys, threading, time
    faulthandler.dump_traceback_later(50, exit=True)
    import reflexio
    key, url, other = sys.argv[1:]
    client = reflexio.ReflexioClient(key, url, timeout=5)
    client.delete_user("nobody")
    while not client.stats().last_error:  # the end of the outage is logged beside a delete
        time.sleep(0.05)
    class ToReflexio(logging.Handler):
        def emit(self, record):
            client.publish_interaction("logs", [{"content": record.getMessage()}])
    logging.basicConfig(level=logging.DEBUG, handlers=[ToReflexio()])
    stop = time.monotonic() + 4
    done = [0] * 4
    def busy(n):
        while time.monotonic() < stop:
            logging.getLogger("app").info("working")
            done[n] += 1
            if done[n] % 50 == 0:
                client.delete_user(f"nobody {n}")
            time.sleep(0.002)
    threads = [threading.Thread(target=busy, args=(n,)) for n in range(4)]
    for thread in threads: thread.start()
    print("ready", flush=True)
    for thread in threads: thread.join()
    client.flush(20)
    client.close()
    print("all of it ended", min(done) > 20, flush=True)
"""


@pytest.mark.parametrize("damaged", [False, True], ids=["sound files", "damaged files"])
def test_a_handler_that_publishes_into_the_client(
    scripted: ScriptedServer, spool_dir: Path, tmp_path: Path, damaged: bool
) -> None:
    """Through outages and their ends, with deletes, at DEBUG, and with damaged files to be warned of."""
    path = tmp_path / "story.py"
    path.write_text(textwrap.dedent(STORY))
    if damaged:
        bad = leave(spool_dir, scripted.url, *[f"r{n}" for n in range(40)], size=3000)
        DAMAGES["pages in the middle"](bad)
        DAMAGES["no database"](leave(spool_dir, scripted.url, "r"))
    scripted.stop()
    process = subprocess.Popen(
        [sys.executable, path, KEY, scripted.url, ""], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(3):
            threading.Event().wait(0.4)
            scripted.start()
            threading.Event().wait(0.5)
            scripted.stop()
        scripted.start()
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert out == "all of it ended True\n", err
