"""The files of an installed model, and the manifest that vouches for them."""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reflexio_server.index.embedder import ModelMissing

logger = logging.getLogger(__name__)

MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What `install_model` puts into the folder of models for one of them.

    Attributes:
        names: of the files, without the manifest.
        build: which they are, in the manifest. It rises with every change of what is in them.
        oldest: builds from this one on can be loaded too.
        folder: the model's own folder within that of the models, "" for none.
        option: what `reflexio-server model install` wants to install it.
    """

    names: tuple[str, ...]
    build: int
    oldest: int
    folder: str = ""
    option: str = ""

    def find_fault(
        self, model_dir: Path, *, hashed: Collection[str] | None = None, oldest: int | None = None
    ) -> str | None:
        """Compare the files in `model_dir` with the manifest written beside them.

        Args:
            model_dir: the folder of models.
            hashed: the files to read whole, for their SHA-256 (default all; 100 MB take about a fifth of a second);
                of the others only the size is compared.
            oldest: the files may be of this build, or of a newer one up to `build`. Default: of `build` alone.

        Returns:
            What is wrong, as a clause for an error message, or None if all is well.

        Raises:
            OSError: a file may not be read.
        """
        folder = model_dir / self.folder
        manifest_path = folder / MANIFEST_FILE
        if not manifest_path.is_file():
            return f"it is not installed in {folder} (there is no {MANIFEST_FILE})"
        try:
            manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
            version, files = manifest["version"], manifest["files"]
            expected = {name: (files[name]["size"], files[name]["sha256"]) for name in self.names}
        except (ValueError, KeyError, TypeError, RecursionError):
            return f"{manifest_path} is damaged"
        if version not in range(self.build if oldest is None else oldest, self.build + 1):
            return f"{folder} holds build {version!r} of the model files, and this server's is {self.build}"
        for name, (size, sha256) in expected.items():
            path = folder / name
            if not path.is_file():
                return f"{path} is missing"
            if path.stat().st_size != size:
                return f"{path} has {path.stat().st_size} bytes instead of {size}"
            if (hashed is None or name in hashed) and hash_file(path) != sha256:
                return f"{path} is not the file that was installed: its SHA-256 is another"
        return None

    def check(self, model_dir: Path, *names: str) -> None:
        """Make sure that these files are, byte by byte, what was installed, and that the others are there.

        Raises:
            ModelMissing: a file is absent, is not what was installed, or is of another version.
            OSError: a file may not be read.
        """
        fault = self.find_fault(model_dir, hashed=names, oldest=self.oldest)
        if fault:
            raise self.unusable(fault, model_dir)

    @contextmanager
    def loading(self, model_dir: Path) -> Iterator[None]:
        """Whatever a library raises of a file that it cannot read is ModelMissing: neither has a class of its own."""
        try:
            yield
        except Exception as error:
            folder = model_dir / self.folder
            logger.debug("the model in %s cannot be loaded", folder, exc_info=error)
            raise self.unusable(f"{folder} holds files that cannot be loaded", model_dir) from None

    def unusable(self, fault: str, model_dir: Path) -> ModelMissing:
        return ModelMissing(f"The embedding model cannot be used: {self.remedy(fault, model_dir)}")

    def remedy(self, fault: str, model_dir: Path) -> str:
        return f"{fault}. Run: reflexio-server model install {self.option}--model-dir {model_dir}"

    def write_manifest(self, folder: Path, source: str) -> None:
        """Vouch for the files as they are in `folder` now; `source`: what they are made of, and under which licence."""
        files = {
            name: {"size": (folder / name).stat().st_size, "sha256": hash_file(folder / name)} for name in self.names
        }
        manifest = {"version": self.build, "source": source, "files": files}
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
