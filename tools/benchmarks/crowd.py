"""How a busy application fares with the default settings of server and client: what fails, how many, how long."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np

import reflexio
from tools.benchmarks.filling import Language
from tools.server_process import PASSWORD, ServerProcess, create_account

USERS, TURNS = 20, 100  # users of the store and interactions of each
GATHERED = 500
THREADS, CALLS_OF_A_THREAD = 100, 6
WEB_WORKERS, WEB_USERS, CALLS_OF_A_USER = 2, 150, 6
CALLERS = (1, 8, 32, 128)
SECONDS = 8.0
_START_SECONDS = 60.0


def run(seconds: float = SECONDS) -> tuple[dict[str, Any], dict[str, Any]]:
    """The figures, and beside them how each kind of load failed.

    `errors` counts every call that raised or was answered with another status than 200: of 500 searches, reads and
    waiting publishes gathered on one awaitable client, of 100 threads on one blocking client, of 150 users of a web
    application with two workers, and of the searches that are timed: by 1, 8, 32 and 128 callers of one client, each
    asking again as soon as it has its answer, for `seconds`.
    """
    language = Language(7)
    with tempfile.TemporaryDirectory() as folder:
        email = create_account(Path(folder) / "data")
        server = ServerProcess(Path(folder) / "data")
        os.environ["REFLEXIO_SPOOL_DIR"] = str(Path(folder) / "spool")
        try:
            url = f"http://{server.address}/"
            key = _fill(url, email, language)
            errors: dict[str, Counter[str]] = {
                "gathered": asyncio.run(_gathered(url, key, language)),
                "threads": _threads(url, key, language),
                "web users": _web_users(url, key, language),
            }
            per_s, p99 = {}, {}
            for callers in CALLERS:
                began = time.monotonic()
                took, failed = asyncio.run(_search(url, key, language, callers, seconds))
                per_s[str(callers)] = round(len(took) / (time.monotonic() - began), 1)
                p99[str(callers)] = round(float(np.percentile(took, 99)) * 1000, 2)
                errors[f"{callers} callers"] = failed
        finally:
            server.terminate()
    figures = {"errors": sum(map(Counter.total, errors.values())), "search_per_s": per_s, "p99_ms": p99}
    named = {f"{load}: {name}": count for load, found in errors.items() for name, count in found.items()}
    return figures, {"errors of": named} if named else {}


def _fill(url: str, email: str, language: Language) -> str:
    with reflexio.ReflexioClient(url_endpoint=url, timeout=120) as client:
        key = client.login(email, PASSWORD).api_key
        client.publish_many(
            {"user_id": f"user {user}", "interactions": [{"content": text} for text in language.turns(TURNS)]}
            for user in range(USERS)
        )
        end = time.monotonic() + 300
        while client.search_interactions(query="anything").unindexed_count:
            if time.monotonic() > end:
                raise RuntimeError("the index was not ready within 300 s")
            time.sleep(0.5)
    return key


def _user(number: int) -> str:
    return f"user {number % USERS}"


def _failed(results: Sequence[object]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results if isinstance(result, BaseException))


async def _gathered(url: str, key: str, language: Language) -> Counter[str]:
    texts = [language.question() for _ in range(GATHERED)]
    errors: Counter[str] = Counter()
    async with reflexio.AsyncReflexioClient(key, url) as client:
        kinds: list[Callable[[int, str], Awaitable[object]]] = [
            lambda i, text: client.search_interactions(user_id=_user(i), query=text),
            lambda i, _: client.get_interactions(user_id=_user(i)),
            lambda i, text: client.publish_interaction(_user(i), [{"content": text}], wait_for_response=True),
        ]
        for kind in kinds:
            calls = [kind(number, text) for number, text in enumerate(texts)]
            errors += _failed(await asyncio.gather(*calls, return_exceptions=True))
    return errors


def _threads(url: str, key: str, language: Language) -> Counter[str]:
    texts = [language.question() for _ in range(THREADS * CALLS_OF_A_THREAD)]
    with reflexio.ReflexioClient(key, url) as client, ThreadPoolExecutor(THREADS) as threads:

        def call(number: int) -> Exception | None:
            try:
                if number % 3 == 0:
                    client.publish_interaction(_user(number), [{"content": texts[number]}], wait_for_response=True)
                elif number % 3 == 1:
                    client.get_interactions(user_id=_user(number))
                else:
                    client.search_interactions(user_id=_user(number), query=texts[number])
            except Exception as error:
                return error
            return None

        return _failed(list(threads.map(call, range(len(texts)))))


@contextlib.contextmanager
def _web_application(url: str, key: str) -> Iterator[str]:
    """FastAPI under uvicorn with two workers; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "tools.benchmarks.crowd_app:app", "--port", str(port)]
    environment = os.environ | {"REFLEXIO_API_URL": url, "REFLEXIO_API_KEY": key}
    with subprocess.Popen(
        [*command, "--workers", str(WEB_WORKERS), "--log-level", "warning"], env=environment
    ) as process:
        try:
            end = time.monotonic() + _START_SECONDS
            while True:
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/openapi.json", timeout=5)
                    break
                if time.monotonic() > end:
                    raise RuntimeError(f"the web application did not start within {_START_SECONDS:g} s")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _web_users(url: str, key: str, language: Language) -> Counter[str]:
    texts = [language.question() for _ in range(WEB_USERS)]

    async def use(web: httpx.AsyncClient, number: int) -> Counter[str]:
        errors: Counter[str] = Counter()
        for call in range(CALLS_OF_A_USER):
            asked = {"user": _user(number), "text": texts[number]}
            match call % 3:
                case 0:
                    answer = await web.post("/say", params=asked)
                case 1:
                    answer = await web.get("/find", params=asked)
                case _:
                    answer = await web.post("/say", params=asked | {"wait": "true"})
            if answer.status_code != 200:
                errors[f"HTTP {answer.status_code}"] += 1
        return errors

    async def use_all(address: str) -> Counter[str]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits, trust_env=False) as web:
            found = await asyncio.gather(*[use(web, number) for number in range(WEB_USERS)])
        return sum(found, Counter())

    with _web_application(url, key) as address:
        return asyncio.run(use_all(address))


async def _search(
    url: str, key: str, language: Language, callers: int, seconds: float
) -> tuple[list[float], Counter[str]]:
    """How long each search took that began within so many seconds, and what failed."""
    took: list[float] = []
    errors: Counter[str] = Counter()
    async with reflexio.AsyncReflexioClient(key, url) as client:
        await client.search_interactions(user_id=_user(0), query=language.question())
        end = time.monotonic() + seconds

        async def ask(number: int) -> None:
            while (began := time.monotonic()) < end:
                try:
                    await client.search_interactions(user_id=_user(number), query=language.question())
                except reflexio.ReflexioError as error:
                    errors[type(error).__name__] += 1
                took.append(time.monotonic() - began)

        await asyncio.gather(*[ask(number) for number in range(callers)])
    return took, errors
