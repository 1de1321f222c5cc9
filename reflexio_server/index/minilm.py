"""all-MiniLM-L6-v2 on onnxruntime."""

import logging
import platform
import sys
from pathlib import Path

from reflexio_server.index.bert_build import Precision
from reflexio_server.index.encoder import Encoder, Frame, load_tokenizer
from reflexio_server.index.model_files import ModelFiles
from reflexio_server.index.session import open_session
from reflexio_server.words import is_mostly_latin

logger = logging.getLogger(__name__)

# Part of model_id. Raise it whenever the weights, their quantization or the chunking change: old vectors are then known
# for what they are.
VERSION = 1
# Of the files, in the manifest. Raise it whenever the graph changes. In int8 another order of the same sums rounds in
# another way: 1 - cosine is 0.0006 in the mean and 0.01 at most between builds 1 and 2, and 0.0007 and 0.01 between
# onnxruntime 1.22 and 1.32 on build 1. So much is one model; what moves vectors further is a new VERSION.
BUILD = 2
_OLDEST_BUILD = 1  # runs too

# The model was trained on at most 256 tokens (max_seq_length in its sentence_bert_config.json).
MAX_TOKENS = 256
_UNKNOWN, _CLS, _SEP = 100, 101, 102  # in tokenizer.json

TOKENIZER_FILE = "tokenizer.json"
MODEL_FILES: dict[Precision, str] = {"int8": "minilm-int8.onnx", "fp32": "minilm-fp32.onnx"}
FILES = ModelFiles((*MODEL_FILES.values(), TOKENIZER_FILE), BUILD, _OLDEST_BUILD)

# Instructions that multiply and add four int8 pairs at once, as /proc/cpuinfo calls them on x86 and arm64.
_INT8_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "asimddp"}


class MiniLM(Encoder):
    """all-MiniLM-L6-v2 (Apache-2.0), 384 dimensions.

    A chunk has at most 254 tokens, about 1,000 characters of English.
    """

    def __init__(self, model_dir: Path, precision: Precision) -> None:
        """Load the files that `install_model` put into `model_dir`.

        Raises:
            ModelMissing: a file is absent, is not what was installed, is of another version, or cannot be loaded.
            OSError: a file may not be read.
        """
        network = MODEL_FILES[precision]
        FILES.check(model_dir, network, TOKENIZER_FILE)
        if older := FILES.find_fault(model_dir, hashed=()):
            logger.warning("The embedding model could be faster: %s", FILES.remedy(older, model_dir))
        self.model_id = f"all-MiniLM-L6-v2/{precision}/{VERSION}"
        with FILES.loading(model_dir):
            tokenizer, session = load_tokenizer(model_dir / TOKENIZER_FILE), open_session(str(model_dir / network))
        frame = Frame((_CLS,), (_SEP,))
        super().__init__(tokenizer, session, frame, frame, MAX_TOKENS, (_UNKNOWN,))

    def _understands(self, query: str) -> bool:
        """It knows English: of what is mostly in other scripts it knows letters, and compares how texts are written.

        Then meaning counts nothing: on XQuAD-R it did harm to Russian, Arabic, Hindi, Chinese and Thai.
        """
        return is_mostly_latin(query)


def best_precision() -> Precision:
    """Return the faster precision for this processor: int8 where it has an int8 dot product, else fp32.

    With it, int8 runs about three times as fast as fp32; without, it may be slower, and on x86 less exact too
    (sums of two products saturate at 16 bits).
    """
    if sys.platform == "darwin":
        # Every Apple processor that runs macOS on arm64 has the instruction; Intel Macs do not say, so fp32.
        return "int8" if platform.machine() == "arm64" else "fp32"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and has_int8_dot_product(cpuinfo.read_text(encoding="utf-8", errors="replace")):
        return "int8"
    return "fp32"


def has_int8_dot_product(cpuinfo: str) -> bool:
    """Tell from the text of /proc/cpuinfo whether the first processor has an int8 dot product.

    It is called VNNI on x86 (flags avx512_vnni, avx_vnni) and dot product on arm64 (asimddp).
    """
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return not _INT8_DOT_PRODUCT.isdisjoint(value.split())
    return False
