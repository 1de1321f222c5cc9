"""F14: closing never raises because standard error is gone, and all of it happens."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.client.scripted_server import KEY

GONE = {
    "closed": "sys.stderr.close()",
    "no descriptor": "os.close(2)",
    "none": "sys.stderr = None",
    "no reader": "r, w = os.pipe(); os.close(r); os.dup2(w, 2)",
    "anything": "sys.stderr = object()",
}
STORY = """
    import os, sys, reflexio
    out = open(sys.argv[2], "w")
    told = []
    try:
        with reflexio.ReflexioClient(sys.argv[1], "http://127.0.0.1:1/") as c:
            receipt = c.publish_interaction("u", [{{"content": "x"}}])
            try: c.who_am_i(timeout=0.1)
            except reflexio.ReflexioError: pass
            (sender,) = c._all_senders()
            {gone}
            try:
                c.close(0.2)
            except BaseException as e:
                print("close() raises", repr(e), file=out)
            raise LookupError("of the application")
    except LookupError as e:
        print(repr(e.__context__), type(receipt._outcome.exception(0)).__name__, c._channel, file=out)
        print(sender.spool._files(), sender._thread.is_alive(), file=out, flush=True)
    again = reflexio.ReflexioClient(sys.argv[1], "http://127.0.0.1:1/")
    again.publish_interaction("u", [{{"content": "at exit"}}])
"""


@pytest.mark.parametrize("gone", GONE)
def test_closing_without_a_standard_error(spool_dir: Path, tmp_path: Path, gone: str) -> None:
    path = tmp_path / "story.py"
    path.write_text(textwrap.dedent(STORY.format(gone=GONE[gone])))
    done = subprocess.run(
        [sys.executable, path, KEY, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    assert (tmp_path / "out").read_text() == "None ClosedError None\n[] False\n", done.stderr
    assert "Traceback" not in done.stderr
    assert any(name.suffix == ".spool" for name in spool_dir.iterdir()), "what was left is kept"
