"""scripts/house: what it says of a made-up house in which everything is wrong once, and its keys."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.house import ROOT, belongs_to, look

FILES = {
    "reflexio_server/app.py": "from reflexio_server.rpc import one\nfrom reflexio_server.storage import sqlite\n",
    "reflexio_server/rpc/one.py": "from reflexio_server.rpc.two import two\nimport reflexio_server.core\n",
    "reflexio_server/rpc/two.py": "def two():\n    from reflexio_server.rpc import three\n",
    "reflexio_server/rpc/three.py": "if TYPE_CHECKING:\n    from reflexio_server.rpc.one import One\n",
    "reflexio_server/core/__init__.py": '"""Not SQLite."""\nfrom reflexio_server import rpc\n\n\nURL = "sqlite://"\n',
    "reflexio_server/storage/rows.py": "from sqlalchemy.dialects import postgresql\n",
    "reflexio_server/storage/sqlite.py": "import sqlite3, sqlalchemy\nfrom reflexio_server.app import App\n",
    "reflexio_client/reflexio/errors.py": "import grpc\n",
    "reflexio_client/reflexio/spool/sender.py": "from reflexio import errors\nfrom reflexio.client import Client\n",
    "reflexio_client/reflexio/client.py": "from reflexio.spool import sender\n# A comment on sqlite\n",
    "reflexio_client/reflexio/v1/made_pb2.py": "from reflexio import client\n",
    "tools/made.py": "import sqlite3\n",
    "tests/made_pb2_grpc.py": "",
}


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    house = look(tmp_path)
    assert house.circles == [
        ["reflexio.client", "reflexio.spool.sender"],
        ["reflexio_server.app", "reflexio_server.storage.sqlite"],
        ["reflexio_server.rpc.one", "reflexio_server.rpc.three", "reflexio_server.rpc.two"],
    ]
    assert house.upward == [
        "reflexio_server/core/__init__.py imports reflexio_server.rpc",
        "reflexio_server/storage/sqlite.py imports reflexio_server.app.App",
        "reflexio_client/reflexio/spool/sender.py imports reflexio.client.Client",
    ]
    assert house.dialect_elsewhere == [
        "reflexio_server/app.py:2 sqlite",
        "reflexio_server/core/__init__.py:5 sqlite://",
        "reflexio_server/storage/rows.py:1 postgresql",
    ]
    assert house.figures() == {
        "lines": {"server": 16, "client": 5, "tools": 1, "tests": 0},
        "files": 11,
        "circles": 3,
        "upward": 3,
        "dialect_elsewhere": 3,
        "longest": 5,
    }


def test_the_last_line_is_json() -> None:
    command = [sys.executable, "-m", "tools.house", "--json"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    figures = json.loads(said.splitlines()[-1])
    assert list(figures) == ["lines", "files", "circles", "upward", "dialect_elsewhere", "longest"]
    assert list(figures["lines"]) == ["server", "client", "tools", "tests"]
    assert all(isinstance(count, int) for name, count in figures.items() if name != "lines")
    assert 0 < figures["longest"] < min(figures["lines"].values())


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("reflexio_server.cli", "top"),
        ("reflexio_server.cli.main", "top"),
        ("reflexio_server.words", "shared"),
        ("reflexio_server.storage.database.own", "storage"),
        ("reflexio", "clients"),
        ("reflexio.ReflexioClient", "clients"),
        ("reflexio.client_reads.Reads", "clients"),
        ("reflexio.spool.__main__", "command"),
        ("reflexio.cli.spool", "command"),
        ("reflexio.spool.Spool", "delivery"),
        ("reflexio.receipt.Receipt", "leaves"),
        ("reflexio.ids", "shared"),
        ("reflexio.v1.interaction_pb2", "reflexio.v1"),
        ("grpc.aio", "grpc"),
        ("json", ""),
    ],
)
def test_the_floor_of_a_module(name: str, floor: str) -> None:
    assert belongs_to(name) == floor
