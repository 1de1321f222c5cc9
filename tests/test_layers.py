"""The building plan: who may import whom, how long a module is, and that the migrations make the tables."""

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from reflexio_server.storage.database import Database
from reflexio_server.storage.tables import metadata
from tests.support import LocalServer

ROOT = Path(__file__).parents[1]
GRPC = {"grpc", "grpc_status", "grpc_health", "grpc_reflection", "google", "reflexio.v1"}
SQL = re.compile(
    r"\b(SELECT\s.*\bFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(TABLE|INDEX|VIEW)|PRAGMA)\b", re.S
)

# What each floor may import of the project and of the libraries that belong to one floor only.
FLOORS: dict[str, set[str]] = {
    "rpc": {"rpc", "core", "shared", *GRPC},
    "core": {"core", "storage", "index", "shared"},
    "storage": {"storage", "shared", "sqlalchemy", "alembic"},
    "index": {"index", "shared", "chromadb", "onnxruntime", "tokenizers", "wordllama"},
}
# What every floor may use, and what is shared with the client.
SHARED = {"errors", "model", "process", "shortage", "stages", "words"}
SHARED_WITH_CLIENT = {"ids", "supervised"}
GUARDED = {
    *FLOORS,
    *GRPC,
    "sqlalchemy",
    "alembic",
    "chromadb",
    "onnx",
    "onnxruntime",
    "safetensors",
    "tokenizers",
    "top",
}


def modules() -> list[Path]:
    return sorted((ROOT / "reflexio_server").rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(path: Path) -> Iterator[str]:
    """Every imported module, and `module.name` for what is imported from one; also inside functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def belongs_to(name: str) -> str:
    """The floor of a project's module, the name of a guarded library, "shared", "top", or "" for anything else."""
    head, *rest = name.split(".")
    if head == "reflexio_server":
        return rest[0] if rest and rest[0] in FLOORS else "shared" if rest and rest[0] in SHARED else "top"
    if head == "reflexio":
        return (
            "reflexio.v1" if rest and rest[0] == "v1" else "shared" if rest and rest[0] in SHARED_WITH_CLIENT else "top"
        )
    return head if head in GUARDED else ""


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_only_calls_downwards(floor: str) -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        if path.is_relative_to(ROOT / "reflexio_server" / floor)
        for name in imported(path)
        if belongs_to(name) not in {"", *FLOORS[floor]} and name != "sqlalchemy.Connection"
    ]
    assert not broken


def test_core_knows_of_sqlalchemy_only_the_connection_that_it_passes_on() -> None:
    used = {
        name
        for path in modules()
        if path.is_relative_to(ROOT / "reflexio_server" / "core")
        for name in imported(path)
        if name.startswith("sqlalchemy")
    }
    assert used <= {"sqlalchemy.Connection"}


def test_only_rpc_and_what_wires_it_know_grpc_and_the_generated_messages() -> None:
    knowing = {
        str(path.relative_to(ROOT / "reflexio_server"))
        for path in modules()
        for name in imported(path)
        if belongs_to(name) in GRPC
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
        for name in imported(path)
        if name.split(".")[0] == library
    }
    assert knowing == modules_with_it


def test_only_storage_has_sql_text() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        if not path.is_relative_to(ROOT / "reflexio_server" / "storage")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value)
    ]
    assert not found


def test_the_only_cycle_free_way_up_is_app() -> None:
    """Nothing below the top imports app, lifecycle, cli or config; what they need is passed to them."""
    for path in modules():
        if path.parent != ROOT / "reflexio_server":
            assert not [name for name in imported(path) if belongs_to(name) == "top"], path


def test_every_module_says_what_it_is_for_and_stays_below_400_lines() -> None:
    for path in modules():
        lines = path.read_text().splitlines()
        assert len(lines) < 400, f"{path} has {len(lines)} lines: is it two modules?"
        assert ast.get_docstring(tree(path)), path


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
    assert made == [["LogCalls", "MapErrors", "Admit", "Authenticate", "LimitCalls", "Decode"]]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    start(metrics_port=0)
    assert made[1] == ["LogCalls", "CountCalls", "TraceCalls", *made[0][1:]]
