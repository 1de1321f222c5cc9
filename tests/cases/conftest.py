from collections.abc import Iterator

import pytest

import reflexio
from tests.client.scripted_server import KEY, ScriptedServer


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def scripted_client(scripted: ScriptedServer) -> Iterator[reflexio.ReflexioClient]:
    client = reflexio.ReflexioClient(KEY, scripted.url, timeout=20)
    yield client
    client.close(timeout=0)
