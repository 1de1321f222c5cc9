"""F2, and its twin A14: greenlets in place of threads. gevent works, eventlet is refused in words."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.client.scripted_server import KEY, ScriptedServer
from tests.support import LocalServer

APP = """
import os
import reflexio
client = reflexio.ReflexioClient()
USED = os.environ.get("USED_BEFORE")
if USED:
    client.publish_interaction("u", [{"content": "by the master"}], wait_for_response=True)
    client.publish_interaction("u", [{"content": "by the master's outbox"}]).wait(20)

def app(environ, start_response):
    what = environ["PATH_INFO"].strip("/")
    if what == "publish":
        client.publish_interaction("u", [{"content": "a parcel"}])
    elif what == "wait":
        client.publish_interaction("u", [{"content": "a parcel"}]).wait(20)
    elif what == "waiting":
        client.publish_interaction("u", [{"content": "a parcel"}], wait_for_response=True)
    elif what == "search":
        assert client.search_interactions(user_id="u", query="parcel", top_k=3).hits
    elif what == "many":
        result = client.publish_many({"user_id": "m", "interactions": [{"content": str(i)}]} for i in range(300))
        assert result.requests.stored == 300, result
    elif what == "flush":
        assert client.flush(20).delivered
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{what} {os.getpid()} {client.stats().pending}".encode()]
"""
SCRIPT = """
import os, sys, time
if {first}: import reflexio
from gevent import monkey; monkey.patch_all()
import gevent, reflexio
beats, ended = [time.monotonic()], []
def beat():
    while True:
        gevent.sleep(0.01)
        beats.append(time.monotonic())
gevent.spawn(beat)
def longest():
    return max(b - a for a, b in zip(beats, beats[1:]))
client = reflexio.ReflexioClient()
"""
EVERYTHING = """
began = time.monotonic()
receipt = client.publish_interaction("u", [{"content": "x"}])
assert time.monotonic() - began < 5, "it did not return at once"
gevent.sleep(0.1)
assert receipt.wait(20).success
assert client.search_interactions(user_id="u", query="x", top_k=1).hits
assert client.publish_many({"user_id": "u", "interactions": [{"content": "x"}]} for _ in range(300)).requests.stored
jobs = [gevent.spawn(client.search_interactions, user_id="u", query="x", top_k=1) for _ in range(100)]
jobs += [gevent.spawn(client.publish_interaction, "u", [{"content": "y"}]) for _ in range(100)]
jobs += [gevent.spawn(client.publish_interaction, "u", [{"content": "z"}], wait_for_response=True) for _ in range(50)]
gevent.joinall(jobs)
assert [job.exception for job in jobs if job.exception] == []
assert len(list(client.iter_interactions(user_id="u"))) == 451
assert client.delete_user("u").wait(20).success
assert client.flush(20).delivered
client.close()
assert longest() < 10, longest()
print("well", flush=True)
"""


def run(text: str, url: str, seconds: float = 90, key: str = KEY) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REFLEXIO_API_URL": url, "REFLEXIO_API_KEY": key}
    command = [sys.executable, "-W", "ignore", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Starts a real gunicorn with the application; returns its address."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, key: str, *arguments: str, **environment: str) -> str:
        (tmp_path / "shop.py").write_text(APP)
        command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--timeout", "30", *arguments, "shop:app"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "REFLEXIO_API_URL": url, "REFLEXIO_API_KEY": key, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"Listening at: (http://\S+)", line):
                return found[1]
        raise AssertionError("gunicorn did not start")

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert "WORKER TIMEOUT" not in said
        assert "Traceback" not in said, said


def get(address: str) -> list[str]:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return str(answer.read().decode()).split()


@pytest.mark.parametrize(
    "arguments",
    [
        ("-k", "gevent", "-w", "2"),
        ("-k", "gevent", "-w", "2", "--preload"),
        ("-k", "gevent", "-w", "1", "--preload", "used"),
    ],
    ids=" ".join,
)
def test_gunicorn(server: LocalServer, gunicorn: Callable[..., str], arguments: tuple[str, ...]) -> None:
    used = {"USED_BEFORE": "1"} if arguments[-1] == "used" else {}
    caller = server.new_caller()
    arguments = arguments[:-1] if used else arguments
    address = gunicorn(f"http://{server.address}/", caller.api_key, *arguments, **used)
    whats = ["waiting", "publish", "search", "wait", "many", "flush"]
    workers = set()
    with ThreadPoolExecutor(16) as pool:
        workers.add(get(f"{address}/waiting")[1])  # so that any worker finds it
        began = time.monotonic()
        workers.add(get(f"{address}/search")[1])
        assert time.monotonic() - began < 20
        for what, worker, _ in pool.map(get, [f"{address}/{what}" for what in whats * 4]):
            assert what in whats
            workers.add(worker)
    assert len(workers) <= int(arguments[3])  # none was killed and came anew
    deadline = time.monotonic() + 30
    while len(caller.get(user_id="u", page_size=1000).interactions) < 13 + 2 * bool(used):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("first", [True, False], ids=["reflexio first", "gevent first"])
def test_a_script(scripted: ScriptedServer, first: bool) -> None:
    done = run(SCRIPT.format(first=first) + EVERYTHING, scripted.url)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr


def test_a_server_that_hangs_or_is_away_stops_no_greenlet() -> None:
    text = SCRIPT.format(first=False) + (
        "client.publish_interaction('u', [{'content': 'x'}])\n"
        "def late():\n"
        "    try: client.who_am_i(timeout=1)\n"
        "    except (reflexio.DeadlineExceededError, reflexio.UnavailableError): ended.append(1)\n"
        "jobs = [gevent.spawn(late) for _ in range(40)]\n"
        "import socket; began = time.monotonic(); socket.getaddrinfo('localhost', 80)\n"
        "assert time.monotonic() - began < 0.9, 'look-ups of names wait for gRPC'\n"
        "gevent.joinall(jobs)\n"
        "assert len(ended) == 40\n"
        "assert client.flush(0.2).pending == 1\n"
        "client.close(0.2)\n"
        "assert longest() < 0.9, longest()\n"
        "print('well', flush=True)"
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        for port in (silent.getsockname()[1], 1):
            done = run(text, f"http://127.0.0.1:{port}/")
            assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr
            assert "1 requests were not delivered" in done.stderr


def test_a_fork_and_the_exit(scripted: ScriptedServer) -> None:
    text = SCRIPT.format(first=False) + (
        "client.publish_interaction('u', [{'content': 'before'}]).wait(20)\n"
        "gevent.spawn(client.search_interactions, user_id='u', query='x', top_k=1); gevent.sleep(0)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    client.publish_interaction('u', [{'content': 'child'}]).wait(20)\n"
        "    assert client.search_interactions(user_id='u', query='x', top_k=1).hits\n"
        "    os._exit(7)\n"
        "client.publish_interaction('u', [{'content': 'parent'}]).wait(20)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7\n"
        "for _ in range(100): client.publish_interaction('u', [{'content': 'at the end'}])\n"
        "print('well', flush=True)"
    )
    done = run(text, scripted.url)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr
    assert sorted(set(scripted.stored_contents())) == ["at the end", "before", "child", "parent"]
    assert len(scripted.requests) == 103


PATCH = "from gevent import monkey; monkey.patch_all()"
POOL = "gevent.get_hub().threadpool.apply"
USES = [
    "c.publish_interaction('u', [{'content': 'x'}])",
    "c.who_am_i()",
    "c.publish_many([{'user_id': 'u', 'interactions': [{'content': 'x'}]}])",
    "c.close()",
]
REFUSED: dict[str, tuple[str, str]] = {
    "patched after a publish": (
        f"import reflexio; c = reflexio.ReflexioClient(); {USES[0]}.wait(20)\n{PATCH}\n",
        "ReflexioError: gevent has replaced threads after gRPC was used",
    ),
    "patched after a read": (
        f"import reflexio; c = reflexio.ReflexioClient(); c.who_am_i()\n{PATCH}\n",
        "ReflexioError: gevent has replaced threads after gRPC was used",
    ),
    "eventlet": (
        "import eventlet; eventlet.monkey_patch(); import reflexio; c = reflexio.ReflexioClient()",
        "ConfigurationError: eventlet has replaced threads by greenlets.*Use gevent or real threads",
    ),
    "eventlet after the import": (
        "import reflexio, eventlet; eventlet.monkey_patch(); c = reflexio.ReflexioClient()",
        "ConfigurationError: eventlet has replaced threads by greenlets",
    ),
    "eventlet after the client": (
        "import reflexio, eventlet; c = reflexio.ReflexioClient(); eventlet.monkey_patch()\n",
        "ConfigurationError: eventlet has replaced threads by greenlets",
    ),
    "eventlet and asyncio": (
        "import eventlet; eventlet.monkey_patch(); import reflexio; c = reflexio.AsyncReflexioClient()",
        "ConfigurationError: eventlet has replaced threads by greenlets",
    ),
    "gevent and asyncio": (
        f"{PATCH}; import reflexio; c = reflexio.AsyncReflexioClient()",
        "ConfigurationError: gevent has replaced threads.*use the blocking ReflexioClient",
    ),
    "gevent's thread pool": (
        f"{PATCH}; import gevent, reflexio; c = reflexio.ReflexioClient()\nc.who_am_i(); {POOL}(c.who_am_i)",
        "ReflexioError: under gevent, gRPC works on one thread",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_in_words(scripted: ScriptedServer, case: str) -> None:
    text, error = REFUSED[case]
    for use in USES if text.endswith("\n") else [""]:
        done = run(text + use, scripted.url, seconds=30)
        assert done.returncode == 1
        assert re.search(error, done.stderr), done.stderr


@pytest.mark.parametrize(
    "patch", ["gevent.monkey as m; m.patch_all(thread=False)", "eventlet as m; m.monkey_patch(thread=False)"]
)
def test_with_real_threads_both_work(scripted: ScriptedServer, patch: str) -> None:
    use: Any = "assert c.publish_interaction('u', [{'content': 'x'}]).wait(20).success; c.who_am_i(); c.close()"
    done = run(f"import {patch}; import reflexio; c = reflexio.ReflexioClient(); {use}; print('well')", scripted.url)
    assert (done.stdout, done.returncode) == ("well\n", 0), done.stderr
