"""F18: warnings that are turned into errors come out of nowhere, and end nothing."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.cases.spool_files import DAMAGES, change, leave
from tests.client.scripted_server import KEY, ScriptedServer

STORY = """
    import json, sys, time, warnings
    import reflexio, reflexio.spool.sender
    reflexio.spool.sender._ADOPTION_SECONDS = 0.1
    if sys.argv[3:]: warnings.simplefilter("error")
    c = reflexio.ReflexioClient(sys.argv[1], sys.argv[2])
    receipts = [c.publish_interaction("u", [{"content": str(i)}]) for i in range(2)]
    for receipt in receipts: receipt.wait(20)
    time.sleep(0.5)
    c.publish_interaction("u", [{"content": "later"}]).wait(20)
    stats = c.stats()
    c.close()
    print(json.dumps([stats.delivered, stats.durable]))
"""


def run(server: ScriptedServer, folder: str, tmp_path: Path) -> list[object]:
    path = tmp_path / "story.py"
    path.write_text(textwrap.dedent(STORY))
    done = subprocess.run(
        [sys.executable, "-W", "error", path, KEY, server.url, "error"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "REFLEXIO_SPOOL_DIR": folder},
    )
    assert done.returncode == 0, done.stderr
    found: list[object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("folder", ["/proc/x", "/dev/null/x"])
def test_no_disk(scripted: ScriptedServer, tmp_path: Path, folder: str) -> None:
    assert run(scripted, folder, tmp_path) == [3, False]


def test_files_that_are_warned_of(scripted: ScriptedServer, spool_dir: Path, tmp_path: Path) -> None:
    newer = leave(spool_dir, scripted.url, "r")
    change(newer, "PRAGMA user_version = 9")
    DAMAGES["no database"](damaged := leave(spool_dir, scripted.url, "r"))
    assert run(scripted, str(spool_dir), tmp_path) == [3, True]
    assert newer.exists()
    assert damaged.exists()
