"""Processes that publish, and the spool files they leave."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.client.scripted_server import KEY, ScriptedServer


def python(server: ScriptedServer, body: str, tmp_path: Path, name: str = "script") -> subprocess.Popen[str]:
    path = tmp_path / f"{name}.py"
    head = f"""
        import os, signal, sys, time
        import reflexio
        def connect():
            return reflexio.ReflexioClient({KEY!r}, {server.url!r})
        def publish(client, user, number):
            for i in range(number):
                client.publish_interaction(user, [{{"content": f"{{user}} {{i}}"}}])
        """
    path.write_text(textwrap.dedent(head) + textwrap.dedent(body))
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, path], stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def run(server: ScriptedServer, body: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    process = python(server, body, tmp_path)
    try:
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def spools(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".spool"))


def expected(user: str, number: int) -> list[str]:
    return [f"{user} {i}" for i in range(number)]
