import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from reflexio_server.index.model_install import install_model
from tests.support import Caller, LocalServer


@pytest.fixture(scope="session")
def model_dir() -> Path:
    chosen = os.environ.get("REFLEXIO_MODEL_DIR")
    folder = Path(chosen) if chosen else platformdirs.user_cache_path("reflexio") / "models"
    install_model(folder, print)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalServer]:
    """One server for all tests that do not stop it; each takes an account of its own."""
    running = LocalServer(tmp_path_factory.mktemp("data"), model_dir)
    yield running
    running.stop()


@pytest.fixture
def caller(server: LocalServer) -> Caller:
    return server.new_caller()
