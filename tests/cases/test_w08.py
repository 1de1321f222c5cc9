"""W8: the model that is loaded is the one that was installed, byte by byte, or it is said in a line what mends it."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.loading import load_embedder
from reflexio_server.index.minilm import FILES, MODEL_FILES, TOKENIZER_FILE
from reflexio_server.index.model_files import MANIFEST_FILE

ROOT = Path(__file__).parents[2]
INT8, FP32 = MODEL_FILES["int8"], MODEL_FILES["fp32"]


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model_dir, tmp_path / "models")


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x20
    path.write_bytes(content)


def trusted(folder: Path, name: str) -> None:
    """Let the manifest say that the file is what was installed."""
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    content = (folder / name).read_bytes()
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))


def server(folder: Path, data: Path, *command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "reflexio_server", *command, "--model-dir", str(folder), "--data-dir", str(data)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("embedder", "name", "at"),
    [("minilm-int8", INT8, 0.0), ("minilm-int8", INT8, 0.5), ("minilm-fp32", FP32, 1.0)]
    + [(embedder, TOKENIZER_FILE, 0.5) for embedder in ("minilm", "minilm-int8", "minilm-fp32")],
)
def test_a_changed_byte_is_never_loaded(copy: Path, embedder: str, name: str, at: float) -> None:
    flip(copy / name, at)
    with pytest.raises(ModelMissing, match=rf"{name} is not the file that was installed.* Run: reflexio-server model"):
        load_embedder(embedder, copy)


def test_other_weights_of_the_same_size_are_refused_and_repaired(copy: Path, tmp_path: Path) -> None:
    """Weights of another model, which would give other vectors in silence."""
    intact = (copy / INT8).read_bytes()
    middle = len(intact) // 2
    (copy / INT8).write_bytes(intact[:middle] + bytes(1000) + intact[middle + 1000 :])
    started = server(copy, tmp_path / "data", "serve", "--port", "0", "--embedder", "minilm-int8")
    assert (started.returncode, started.stdout) == (1, "")
    assert "Traceback" not in started.stderr
    assert "reflexio-server model install --model-dir" in started.stderr.splitlines()[-1]

    repaired = server(copy, tmp_path / "data", "model", "install", "--quiet-if-present")
    assert repaired.returncode == 0, repaired.stderr
    assert "is ready" in repaired.stderr
    assert FILES.find_fault(copy) is None
    again = server(copy, tmp_path / "data", "model", "install", "--quiet-if-present")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (INT8, lambda content: content[: len(content) // 2]),
        (INT8, lambda content: b"no graph at all"),
        (TOKENIZER_FILE, lambda content: b"{}"),
        (TOKENIZER_FILE, lambda content: b"\xff" + content[1:]),
    ],
)
def test_files_that_cannot_be_loaded_are_a_line_even_if_the_manifest_vouches_for_them(
    copy: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    (copy / name).write_bytes(damage((copy / name).read_bytes()))
    trusted(copy, name)
    with pytest.raises(ModelMissing, match=r"holds files that cannot be loaded\. Run: reflexio-server model install"):
        load_embedder("minilm-int8", copy)


def test_an_install_mends_what_a_manifest_vouches_for_whatever_the_umask(copy: Path) -> None:
    (copy / INT8).write_bytes(b"no graph at all")
    trusted(copy, INT8)
    line = f"umask 0; exec '{sys.executable}' -m reflexio_server model install --model-dir '{copy}'"
    subprocess.run(["sh", "-c", line], cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert {(copy / name).stat().st_mode & 0o777 for name in (INT8, FP32, TOKENIZER_FILE, MANIFEST_FILE)} == {0o644}
    assert load_embedder("minilm-int8", copy).dimensions == 384


def test_wordllamas_files_are_what_its_package_brought(monkeypatch: pytest.MonkeyPatch) -> None:
    from reflexio_server.index import wordllama

    if not _installed("wordllama"):
        pytest.skip("the extra wordllama is not installed")
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path)[:-1] + b"\0" if "wordllama" in str(path) else read(path)
    )
    with pytest.raises(ModelMissing, match=r"is not the file that wordllama .* Run: pip install --force-reinstall"):
        wordllama.WordLlama()


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
