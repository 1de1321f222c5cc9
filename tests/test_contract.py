"""The check for breaking changes of the contract, tried on a copy: it must really fail."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUF = Path(sys.executable).with_name("buf")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    """Compare with the committed image, as scripts/check does."""
    command = [str(BUF), "breaking", "--against", str(ROOT / "proto" / "baseline.binpb")]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def change(folder: Path, name: str, old: str, new: str) -> None:
    file = folder / "proto" / "reflexio" / "v1" / name
    text = file.read_text()
    assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new))


def test_the_contract_as_it_is_breaks_nothing(copy: Path) -> None:
    found = breaking(copy)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("interaction.proto", "string content = 2;", "string content = 20;", r'field "2" with name "content"'),
        (
            "interaction.proto",
            "uint32 size_bytes = 5;",
            "int64 size_bytes = 5;",
            r'Field "5" with name "size_bytes" .* changed type',
        ),
        ("interaction.proto", "USER_ACTION_TYPE = 4;", "USER_ACTION_TYPE = 5;", r'enum value "4"'),
        (
            "auth_service.proto",
            "string key_id = 2;",
            "string id = 2;",
            r'Field "2" .* changed name from "key_id" to "id"',
        ),
    ],
    ids=["renumbered field", "other type", "renumbered value", "renamed field"],
)
def test_a_breaking_change_is_found(copy: Path, name: str, old: str, new: str, said: str) -> None:
    change(copy, name, old, new)
    found = breaking(copy)
    assert found.returncode != 0
    assert re.search(said, found.stdout), found.stdout


def test_a_new_field_breaks_nothing(copy: Path) -> None:
    change(
        copy, "interaction.proto", "bool data_omitted = 7;", "bool data_omitted = 7;\n  // New.\n  string more = 99;"
    )
    found = breaking(copy)
    assert found.returncode == 0, found.stdout
