"""How an installed model's files are made: what the recipes of all models share."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reflexio_server.index.model_files import ModelFiles
from reflexio_server.index.packages import InstallFailed

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the files of one model are made.

    Attributes:
        files: what is to be there.
        source: what it is made of, and under which licence.
        build: makes them in a folder, and reports its steps. Raises InstallFailed or OSError.
        embedders: those that load them, by name.
    """

    files: ModelFiles
    source: str
    build: Callable[[Path, Report], None]
    embedders: tuple[str, ...]


def read_checked(path: Path, sha256: str, package: str, command: str) -> bytes:
    """Read a file of a package once: the bytes that were checked are the bytes that are used.

    Raises:
        InstallFailed: its SHA-256 is another. Then the package is to be uninstalled, and `command` run again.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InstallFailed(
            f"{path} is not the file that was published: its SHA-256 should be {sha256} and is {found}. "
            f"Uninstall {package} and run again: {command}"
        )
    return content
