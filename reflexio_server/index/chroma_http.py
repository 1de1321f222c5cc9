"""Calls to a Chroma server over HTTP: each has an end, and an error that says whose fault it is.

By httpx alone: Chroma's own client waits for ever, takes a second of processor time to import, and reads settings from
the environment. The interface is that of `chroma run` 1.x, /api/v2.
"""

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx

from reflexio_server import ending
from reflexio_server.errors import Ended
from reflexio_server.index.nearest import Late, Stopped, Unavailable

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 30.0
"""How long a call may take, unless it says otherwise; what writes takes longest."""

_STOP_SECONDS = 5.0  # the same while the server stops
_LOOK_SECONDS = 0.5  # how often it is looked whether to go on waiting
_MOST_TEXT = 200  # characters of an answer that are told
_CONNECTIONS = 64


class Missing(Exception):
    """What was asked for is not there."""


class Refused(Exception):
    """The server understood the call and does not do it; the text says why."""


class ServerFailed(Unavailable):
    """The server failed at this call by a fault of its own; nothing tells whether it passes."""


class ChromaHttp:
    """A server's database, with a token if one is needed; one of it lasts until the server does not answer.

    After a call that was not answered all others raise Unavailable at once.
    """

    def __init__(self, url: str, tenant: str, database: str, token: str | None, stopping: Callable[[], bool]) -> None:
        """`stopping`: whether to wait no longer than a moment for answers, as this server stops."""
        self._url = url
        self._tenant, self._database = tenant, database
        self._token = token
        self._stopping = stopping
        self._away: str | None = None
        secure = url.startswith("https:")
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v2",
            # Chroma Cloud asks for the second; what stands before a server of one's own for the first.
            headers={
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}", "X-Chroma-Token": token} if token else {}),
            },
            # The environment's proxies and logins are not asked: to them too everything would be sent.
            trust_env=False,
            verify=ssl.create_default_context() if secure else False,
            limits=httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS),
        )

    @property
    def path(self) -> str:
        """Of the database."""
        return f"/tenants/{quote(self._tenant, safe='')}/databases/{quote(self._database, safe='')}"

    def make_database(self) -> None:
        """Make tenant and database where they are not there: they go with all else when a server is emptied."""
        with suppress(Missing):
            self.ask("GET", self.path)
            return
        for path, name in (
            ("/tenants", self._tenant),
            (f"/tenants/{quote(self._tenant, safe='')}/databases", self._database),
        ):
            with suppress(Refused):  # it is there
                self.ask("POST", path, {"name": name})
        with suppress(Missing):
            self.ask("GET", self.path)
            return
        raise Unavailable(f"{self._url} has no database {self._database} of {self._tenant}, and does not make it")

    def ask(
        self,
        method: str,
        path: str,
        content: Any = None,
        *,
        seconds: float = ANSWER_SECONDS,
        within: float | None = None,
    ) -> Any:
        """What the server answers, as its JSON says it.

        Raises Unavailable when it does not within `seconds`, is away or refuses everybody, Missing, Refused, and Late
        after `within` seconds, when the caller waits no longer than that; Ended and Stopped when the call does that it
        is asked for, or this server.
        """
        if self._away is not None:
            raise Unavailable(self._away)
        answer: Future[Any] = Future()
        # A thread of its own, as nothing else bounds a look-up of a name or an answer that comes byte by byte. It is a
        # daemon: the end of this process need not wait for it.
        began = time.monotonic()
        threading.Thread(
            target=self._run, args=(answer, method, path, content, seconds), name="chroma call", daemon=True
        ).start()
        until = began + seconds
        by = until if within is None else min(until, began + within)
        while True:
            try:
                with ending.stopped_by(answer.cancel), suppress(TimeoutError):
                    return answer.result(max(0.0, min(_LOOK_SECONDS, by - time.monotonic())))
            except CancelledError:
                raise Ended from None
            now = time.monotonic()
            if self._away is not None:  # as another call found out
                raise Unavailable(self._away)
            stopping = within is None and self._stopping()
            if stopping:
                by = min(by, began + _STOP_SECONDS)
            if now < by:
                continue
            if stopping:
                raise Stopped
            if now < until:
                raise Late
            raise self._lost(f"did not answer within {seconds:g} s")

    def close(self) -> None:
        self._away = self._away or "the connection is closed"
        self._client.close()

    def _run(self, answer: "Future[Any]", method: str, path: str, content: Any, seconds: float) -> None:
        try:
            result, error = self._answer(method, path, content, seconds), None
        except BaseException as raised:
            result, error = None, raised
        if not answer.set_running_or_notify_cancel():
            return  # nobody waits for it any more
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def _answer(self, method: str, path: str, content: Any, seconds: float) -> Any:
        until = time.monotonic() + seconds
        limit = httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
        received = bytearray()
        try:
            with self._client.stream(method, path, json=content, timeout=limit) as response:
                for part in response.iter_bytes():
                    received += part
                    if time.monotonic() > until:
                        raise self._lost(f"did not answer within {seconds:g} s")
        except httpx.TimeoutException as error:
            what = "took no connection" if isinstance(error, httpx.ConnectTimeout) else "did not answer"
            raise self._lost(f"{what} in time") from None
        except (httpx.HTTPError, httpx.StreamError, RuntimeError, OSError) as error:  # RuntimeError: it was closed
            raise self._lost(f"cannot be reached ({type(error).__name__}: {self._told(str(error))})") from None
        return self._understood(response.status_code, bytes(received))

    def _understood(self, status: int, received: bytes) -> Any:
        try:
            said = json.loads(received) if received else None
        except ValueError:
            said = None
        if status in range(200, 300):
            if said is None and received:
                raise self._lost("does not answer as Chroma does")
            return said
        kind = said.get("error") if isinstance(said, dict) else None
        text = self._told(str(said.get("message"))) if isinstance(said, dict) else ""
        if status == 404 and kind == "NotFoundError":
            raise Missing(text)
        if status in (401, 403):
            raise self._lost(f"does not accept the token (HTTP {status})")
        if status in (400, 409, 413, 422) and kind:
            raise Refused(text)
        if status == 500 and kind:
            raise ServerFailed(f"{self._url} failed: {text}")
        raise self._lost(f"answered HTTP {status}")

    def _lost(self, what: str) -> Unavailable:
        self._away = f"{self._url} {what}"
        return Unavailable(self._away)

    def _told(self, text: str) -> str:
        """A text of the server's or of the connection's, short and without the token, whoever put that there."""
        if self._token:
            text = text.replace(self._token, "…")
        return " ".join(text.split())[:_MOST_TEXT]
