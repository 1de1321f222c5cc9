"""F17, and the part of W12 that is `spool dead`: the command's lines can be written everywhere, and forged nowhere."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import reflexio
from reflexio.terminal import shown
from tests.client.scripted_server import KEY, ScriptedServer, verdict

EVIL = [
    "ada 😀 ünïcode 漢字",
    "red \x1b[31m and a title \x1b]0;x\x07",
    "r1\n2026-01-01 00:00:00  forged  user x  INVALID: entry",
    "over\rwritten\b\b\x7f",
    "c1 \x9b31m \x85 next",
    "bidi \u202e gnorw \u2066 \u200f",
    "lines \u2028 and \u2029 paragraphs",
    "tab\tand null-free \v\f\x1c",
]


@pytest.fixture
def folder(scripted: ScriptedServer, tmp_path: Path) -> Path:
    """A folder with what waits and what was refused, of evil names, itself of one."""
    folder = tmp_path / "spööl \x1b[1m\nx \u2028😀"
    scripted.script("PublishInteractionStream", *[verdict(0, 0, (0, "INVALID_FIELD"))] * len(EVIL))
    client = reflexio.ReflexioClient(KEY, scripted.url, spool_dir=folder)
    for i, text in enumerate(EVIL):
        client.publish_interaction(text, [{"content": text}], request_id=f"{i} {text}")
        assert client.flush(20).delivered
    scripted.stop()
    for i, text in enumerate(EVIL):
        client.publish_interaction(text, [{"content": text}], request_id=f"{i} {text}")
    client.close(0)
    (folder / "b\x1br\noken-x-x-1.spool").write_text("no database")
    return folder


def command(folder: Path, *arguments: str, encoding: str = "utf-8") -> tuple[int, str, str]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-m", "reflexio.spool", "--dir", str(folder), *arguments],
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode(encoding), done.stderr.decode(encoding)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp1252", "koi8-r", "gbk"])
def test_every_terminal_gets_every_line(folder: Path, encoding: str) -> None:
    code, dead, complaints = command(folder, "dead", encoding=encoding)
    assert code == 1  # there is one that cannot be read
    assert len(dead.splitlines()) == len(EVIL)
    for line in dead.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  \d ", line)
    code, status, _ = command(folder, "status", encoding=encoding)
    assert code == 1  # there is one that cannot be read
    assert f"{len(EVIL)} waiting" in status
    assert len(status.splitlines()) == 5
    assert "cannot be read" in status
    for said in (dead, status, complaints):
        assert all(char.isprintable() or char == "\n" for char in said)
    assert ("😀" in dead) == (encoding == "utf-8")


def test_the_export_is_ascii_and_loses_nothing(folder: Path) -> None:
    code, lines, _ = command(folder, "export", encoding="ascii")
    assert code == 1
    assert [json.loads(line)["user_id"] for line in lines.splitlines()] == EVIL
    _, lines, _ = command(folder, "export", "--dead", encoding="cp1252")
    assert [json.loads(line)["user_id"] for line in lines.splitlines()] == EVIL


@pytest.mark.parametrize("arguments", [("export",), ("dead",), ("status",)])
def test_who_reads_the_output_may_go(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    client = reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/", spool_dir=tmp_path / "s")
    for _ in range(100):
        client.publish_interaction("u", [{"content": "x" * 10_000}])
    client.close(0)
    line = [sys.executable, "-m", "reflexio.spool", "--dir", str(tmp_path / "s"), *arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as going:
        assert going.stdout is not None
        assert going.stderr is not None
        going.stdout.close()
        assert going.stderr.read() == ""
        assert going.wait(60) == 1


def test_an_output_that_is_full_or_closed_is_said_in_one_line(tmp_path: Path) -> None:
    text = f"exec {sys.executable} -m reflexio.spool --dir {tmp_path} status"
    for where in ("/dev/full", "&-"):
        done = subprocess.run(["sh", "-c", f"{text} >{where}"], stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert re.fullmatch("reflexio: the output cannot be written: .*\n", done.stderr)


def test_what_is_shown() -> None:
    assert shown("plain äöü 😀 漢字") == "plain äöü 😀 漢字"
    everything: Any = "".join(map(chr, [*range(0x3000), *range(0xFFF0, 0x10000), *range(0xD800, 0xD810)]))
    assert shown(everything).isprintable()
    assert shown("\x1b\n\u2028") == "\\x1b\\n\\u2028"
