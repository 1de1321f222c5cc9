"""Calls to a Chroma server end in time, whatever answers, and say what is wrong; nobody sees the token."""

import json
import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from reflexio_server.ending import Ending, work_of
from reflexio_server.errors import Ended
from reflexio_server.index.chroma_http import ChromaHttp, Missing, Refused, ServerFailed
from reflexio_server.index.chroma_store import TokenUnusable, has_store, read_token, store_id
from reflexio_server.index.nearest import Late, Stopped, Unavailable
from tests.command import run
from tests.server.core.recovery import publish, serving, texts
from tests.support import create_account, log_in
from tests.wire import wait_until
from tools.chroma_run import ChromaRun

TOKEN = "canary-5e1f0a77c4"
Answer = Callable[[BaseHTTPRequestHandler], None]


class Answering:
    """A server that answers all calls in one way, and notes them."""

    def __init__(self, answer: Answer) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        noted = self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noted.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                self.content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_POST = do_DELETE = do_GET

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def told(status: int, content: Any, **headers: str) -> Answer:
    def answer(call: BaseHTTPRequestHandler) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        call.send_response(status)
        for name, value in headers.items():
            call.send_header(name.replace("_", "-"), value)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)

    return answer


def drip(call: BaseHTTPRequestHandler) -> None:
    """A byte now and then, so that no wait for the next one is long."""
    call.send_response(200)
    call.send_header("Content-Length", "1000")
    call.end_headers()
    for _ in range(100):
        call.wfile.write(b" ")
        call.wfile.flush()
        time.sleep(0.1)


def silent(_call: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], Answering]]:
    made: list[Answering] = []

    def make(answer: Answer) -> Answering:
        made.append(Answering(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def http(url: str, token: str | None = None, stopping: Callable[[], bool] = lambda: False) -> ChromaHttp:
    return ChromaHttp(url, "default_tenant", "default_database", token, stopping)


@pytest.mark.parametrize("answer", [drip, silent], ids=["byte by byte", "silent"])
def test_a_call_ends_in_time_and_none_after_it_waits(answering: Any, answer: Answer) -> None:
    calls = http(answering(answer).url)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        calls.ask("GET", "/heartbeat", seconds=0.5)
    assert time.monotonic() - began < 2
    began = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer"):
        calls.ask("GET", "/heartbeat")
    assert time.monotonic() - began < 0.1
    calls.close()


def test_who_waits_less_is_told_so_and_the_others_what_came_of_it(answering: Any) -> None:
    calls = http(answering(silent).url)
    with pytest.raises(Late):
        calls.ask("GET", "/heartbeat", seconds=0.5, within=0.05)
    time.sleep(1.5)
    with pytest.raises(Unavailable, match="did not answer"):
        calls.ask("GET", "/heartbeat", within=0.05)
    calls.close()


def test_a_call_that_ended_and_a_stop_wait_no_longer(answering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reflexio_server.index.chroma_http._STOP_SECONDS", 0.2)
    server = answering(silent)
    calls, ended = http(server.url), Ending()
    threading.Timer(0.2, ended.come).start()
    began = time.monotonic()
    with work_of(ended), pytest.raises(Ended):
        calls.ask("GET", "/heartbeat", seconds=20, within=20)
    assert time.monotonic() - began < 2
    stopped = http(server.url, stopping=lambda: True)
    with pytest.raises(Stopped):
        stopped.ask("GET", "/heartbeat", seconds=20)
    assert time.monotonic() - began < 5
    calls.close()
    stopped.close()


NOT_FOUND = {"error": "NotFoundError", "message": "Collection [x] does not exist"}


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (told(404, NOT_FOUND), Missing, "does not exist"),
        (told(404, b"<html>no such page</html>"), Unavailable, "answered HTTP 404"),
        (told(400, {"error": "InvalidArgumentError", "message": "dimension"}), Refused, "dimension"),
        (told(400, b"no"), Unavailable, "answered HTTP 400"),
        (told(401, {"error": "AuthError", "message": "no"}), Unavailable, r"does not accept the token \(HTTP 401\)"),
        (told(403, b""), Unavailable, "does not accept the token"),
        (told(429, {"error": "RateLimited"}), Unavailable, "answered HTTP 429"),
        (told(500, {"error": "InternalError", "message": "broken"}), ServerFailed, "failed: broken"),
        (told(500, b"oh"), Unavailable, "answered HTTP 500"),
        (told(502, {"error": "x"}), Unavailable, "answered HTTP 502"),
        (told(302, b"", Location="http://127.0.0.1:1/"), Unavailable, "answered HTTP 302"),
        (told(200, b"<html>welcome</html>"), Unavailable, "does not answer as Chroma does"),
    ],
)
def test_what_is_wrong_is_told_apart(answering: Any, answer: Answer, error: type[Exception], text: str) -> None:
    calls = http(answering(answer).url)
    with pytest.raises(error, match=text) as raised:
        calls.ask("GET", "/heartbeat")
    assert type(raised.value) is error
    calls.close()


def test_where_nobody_listens_and_no_such_host() -> None:
    for url in ("http://127.0.0.1:1", "http://nowhere.invalid:8000", "https://127.0.0.1:1"):
        calls = http(url)
        with pytest.raises(Unavailable, match="cannot be reached"):
            calls.ask("GET", "/heartbeat", seconds=5)
        calls.close()


def test_the_token_goes_to_the_server_and_no_proxy_and_into_no_error(
    answering: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = answering(told(200, {}))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)

    def echo(call: BaseHTTPRequestHandler) -> None:
        told(400, {"error": "InvalidArgumentError", "message": f"you sent {call.headers['Authorization']}"})(call)

    server = answering(echo)
    calls = http(server.url, TOKEN)
    with caplog.at_level(logging.DEBUG), pytest.raises(Refused, match="you sent Bearer …"):
        calls.ask("POST", "/x", {"some": "content"})
    assert server.asked[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert server.asked[0][1]["x-chroma-token"] == TOKEN
    assert proxy.asked == []
    assert TOKEN not in caplog.text
    calls.close()


def test_a_token_is_a_line_that_a_header_takes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}\n")
    assert read_token(file) == TOKEN
    for wrong in ("", "\n", f"{TOKEN}\n{TOKEN}", f"{TOKEN} x", f"{TOKEN}\x00", f"{TOKEN}é", "x" * 8193):
        file.write_text(wrong)
        with pytest.raises(TokenUnusable, match="holds no token") as raised:
            read_token(file)
        assert TOKEN not in str(raised.value)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(TokenUnusable, match="no text"):
        read_token(file)
    with pytest.raises(TokenUnusable, match=r"cannot read .*gone: No such file"):
        read_token(tmp_path / "gone")


def test_a_folder_has_an_id_and_its_copy_another(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    assert not has_store(first)
    store = store_id(first)
    assert len(store) == 16
    assert [store_id(first), has_store(first)] == [store, True]
    second.mkdir()
    (second / "chroma-server.json").write_bytes((first / "chroma-server.json").read_bytes())
    assert store_id(second) != store
    first.rename(tmp_path / "moved")
    assert store_id(tmp_path / "moved") == store
    for damaged in ("", "{}", "[]", '{"store": "../x", "inode": 1}'):
        (tmp_path / "moved" / "chroma-server.json").write_text(damaged)
        assert store_id(tmp_path / "moved") not in (store, "../x")


def test_nobody_sees_the_token_of_a_server(tmp_path: Path, model_dir: Path, answering: Any) -> None:
    """A whole run: a right token, a wrong one, the right one again, which is read anew."""
    wanted = [TOKEN]
    with ChromaRun(tmp_path / "chroma server") as chroma:
        passed_on = httpx.Client(base_url=chroma.url, trust_env=False, timeout=30)

        def gate(call: Any) -> None:
            if call.headers.get("X-Chroma-Token") != wanted[0]:
                told(401, {"error": "AuthError", "message": f"not {call.headers.get('X-Chroma-Token')}"})(call)
                return
            answer = passed_on.request(call.command, call.path, content=call.content, headers=dict(JSON))
            told(answer.status_code, answer.content)(call)

        url = answering(gate).url
        file = tmp_path / "secret" / "token"
        file.parent.mkdir()
        file.write_text(f"{TOKEN}\n")
        email = create_account(tmp_path / "data")
        arguments = ("--chroma-url", url, "--chroma-token-file", str(file), "--metrics-port", "0")
        with serving(tmp_path / "data", model_dir, *arguments, "--log-level", "debug") as server:
            caller = log_in(server.address, email)

            def metrics() -> str:
                found = next(line for line in server.lines if "metrics on" in line).split("metrics on ")[1].split()[0]
                with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(found, timeout=10) as page:
                    return str(page.read().decode())

            def status() -> str:
                return run("index", "status", "--data-dir", tmp_path / "data").output

            def is_open(value: int) -> bool:
                return f"reflexio_index_open {value}.0" in metrics()

            def is_in_it() -> bool:
                return bool(chroma.collections()) and all(len(chroma.ids(name)) == 30 for name in chroma.collections())

            publish(caller, texts(30))
            wait_until(is_in_it, "the vectors to be there")
            wanted[0] = "another"
            wait_until(lambda: caller.search(query="boat") and is_open(0), "the server to refuse it")
            failing = "Failing: the thread chroma of the server, by Unavailable"
            wait_until(lambda: failing in status(), "it to be told")
            wanted[0] = f"{TOKEN}-2"
            file.write_text(wanted[0])
            wait_until(lambda: is_open(1), "the new one to be read")
            line = Path(f"/proc/{server.process.pid}/cmdline").read_text()
            seen = [metrics(), status(), line]
            chroma.kill()
            wait_until(lambda: caller.search(query="boat") and is_open(0), "it to be away")
            seen.append(status())
            assert server.terminate() == 0
            seen.append("".join(server.lines))
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                assert TOKEN.encode() not in path.read_bytes()
        assert not any(TOKEN in text for text in seen)
        assert "does not accept the token (HTTP 401)" in seen[-1]
        assert f"searches of whole accounts ask the Chroma server {url}" in seen[-1]
        passed_on.close()


JSON = {"Content-Type": "application/json"}


def test_a_start_says_what_is_wrong_with_a_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN} {TOKEN}")
    for arguments, env in ((("--chroma-token-file", file), {}), ((), {"REFLEXIO_CHROMA_TOKEN": f"{TOKEN} {TOKEN}"})):
        done = run(
            "serve",
            "--port",
            "0",
            "--data-dir",
            tmp_path / "data",
            "--chroma-url",
            "http://127.0.0.1:1",
            "--embedder",
            "minilm",
            *arguments,
            env=env,
        )
        assert done.exit_code == 1
        assert "holds no token: one line of printable ASCII" in done.output
        assert TOKEN not in done.output
