from collections.abc import Iterator

import pytest

import reflexio
from tests.client.scripted_server import KEY, ScriptedServer


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFLEXIO_API_KEY", raising=False)
    monkeypatch.delenv("REFLEXIO_API_URL", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[reflexio.ReflexioClient]:
    client = reflexio.ReflexioClient(KEY, server.url, timeout=20)
    yield client
    client.close(timeout=0)
