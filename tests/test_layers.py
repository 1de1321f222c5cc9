"""The building plan: who may import whom, how long a module is, and that the migrations make the tables."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from reflexio_server.storage.database import Database
from reflexio_server.storage.tables import metadata
from tests.support import LocalServer
from tools import house
from tools.house import ROOT

SQL = re.compile(
    r"\b(SELECT\s.*\bFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|VIEW)|PRAGMA)\b", re.S
)


def modules() -> list[Path]:
    return house.modules(ROOT, "server")


@pytest.fixture(scope="module")
def found() -> house.House:
    return house.look()


def test_every_floor_only_calls_downwards(found: house.House) -> None:
    """Nothing below the top imports app, lifecycle, cli or config; what they need is passed to them."""
    assert found.upward == []


def test_nothing_imports_in_a_circle(found: house.House) -> None:
    assert found.circles == []


def test_only_what_is_of_a_dialect_names_one(found: house.House) -> None:
    """The statements of all others are Core's, and what Core has no words for is asked of storage/dialect.py."""
    assert found.dialect_elsewhere == []


def test_only_rpc_and_what_wires_it_know_grpc_and_the_generated_messages() -> None:
    knowing = {
        str(path.relative_to(ROOT / "reflexio_server"))
        for path in modules()
        for name in house.imported(path)
        if house.belongs_to(name) in house.GRPC
    }
    assert {path for path in knowing if not path.startswith("rpc/")} <= {
        "app.py",
        "lifecycle.py",
        "tracing.py",
        "transport.py",
    }


@pytest.mark.parametrize(
    ("library", "modules_with_it"),
    [
        ("prometheus_client", {"metrics.py", "rpc/call_metrics.py"}),
        ("opentelemetry", {"tracing.py", "rpc/call_spans.py"}),
    ],
)
def test_only_what_tells_of_the_server_knows_for_whom(library: str, modules_with_it: set[str]) -> None:
    knowing = {
        str(path.relative_to(ROOT / "reflexio_server"))
        for path in modules()
        for name in house.imported(path)
        if name.split(".")[0] == library
    }
    assert knowing == modules_with_it


def test_only_storage_has_sql_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        if not path.is_relative_to(ROOT / "reflexio_server" / "storage")
        and path != (ROOT / house.CHROMAS_OWN.replace(".", "/")).with_suffix(".py")
        for node in ast.walk(house.tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not found


def test_every_module_says_what_it_is_for_and_stays_below_400_lines() -> None:
    for path in modules():
        lines = path.read_text().splitlines()
        assert len(lines) < 400, f"{path} has {len(lines)} lines: is it two modules?"
        assert ast.get_docstring(house.tree(path)), path


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:
        return not (kind == "table" and name is not None and name.startswith("full_text"))

    database = Database(tmp_path, owner=True)
    try:
        with database.read() as conn:
            options = {"include_object": ours, "compare_type": True, "compare_server_default": True}
            context = MigrationContext.configure(conn, opts=options)
            assert compare_metadata(context, metadata) == []
    finally:
        database.close()


def test_the_interceptors_stand_in_their_order(start: Callable[..., LocalServer], monkeypatch: Any) -> None:
    """Everything is logged; every error below is mapped; who has no key takes no stream's place and parses nothing."""
    made: list[list[str]] = []
    build = grpc.server

    def watched(*arguments: Any, **named: Any) -> grpc.Server:
        made.append([type(one).__name__ for one in named["interceptors"]])
        return build(*arguments, **named)

    monkeypatch.setattr("reflexio_server.app.grpc.server", watched)
    start()
    assert made == [["Admit", "LogCalls", "MapErrors", "Gate", "Authenticate", "LimitCalls", "Decode", "EndWork"]]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    start(metrics_port=0)
    assert made[1] == ["Admit", "LogCalls", "CountCalls", "TraceCalls", *made[0][2:]]
