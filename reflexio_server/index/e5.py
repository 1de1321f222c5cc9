"""multilingual-e5-small on onnxruntime: for people who write in many languages, and ask in another one."""

import json
import re
import unicodedata
from pathlib import Path

from reflexio_server.index.embedder import Scale
from reflexio_server.index.encoder import Encoder, Frame, load_tokenizer
from reflexio_server.index.model_files import ModelFiles
from reflexio_server.index.session import open_session

# Part of model_id. Raise it whenever the weights, their quantization or the chunking change: old vectors are then known
# for what they are.
VERSION = 1
BUILD = 1  # of the files, in the manifest. Raise it whenever they change.

NETWORK_FILE = "e5-int8.onnx"
TOKENIZER_FILE = "tokenizer.json"
CHARACTERS_FILE = "characters.json"
FILES = ModelFiles((NETWORK_FILE, TOKENIZER_FILE, CHARACTERS_FILE), BUILD, BUILD, folder="e5", option="--embedder e5 ")

MAX_TOKENS = 512  # max_position_embeddings of the model's config.json
_BEGIN, _END, _UNKNOWN = 0, 2, 3  # <s>, </s> and <unk>
_SPACES = re.compile("  +")


class E5(Encoder):
    """multilingual-e5-small (MIT), 384 dimensions, in int8, from weights of 4 bits.

    A chunk has at most 508 tokens, and a query 507. The model was trained to read "passage: " before a text and
    "query: " before a question, and gets it so: with each chunk.

    Its cosines lie between .70 and .90, whatever the texts: up to .75 they count nothing, from .92 on 1.
    """

    scale = Scale(0.75, 0.17)

    def __init__(self, model_dir: Path) -> None:
        """Load the files that `install_model` put into the folder e5 in `model_dir`.

        Raises:
            ModelMissing: a file is absent, is not what was installed, is of another version, or cannot be loaded.
            OSError: a file may not be read.
        """
        FILES.check(model_dir, *FILES.names)
        folder = model_dir / FILES.folder
        self.model_id = f"multilingual-e5-small/int8/{VERSION}"
        with FILES.loading(model_dir):
            self._characters = str.maketrans(json.loads((folder / CHARACTERS_FILE).read_bytes()))
            tokenizer, session = load_tokenizer(folder / TOKENIZER_FILE), open_session(str(folder / NETWORK_FILE))
            text, query = (
                Frame((_BEGIN, *tokenizer.encode(prefix, add_special_tokens=False).ids), (_END,))
                for prefix in ("passage:", "query:")
            )
        super().__init__(tokenizer, session, text, query, MAX_TOKENS, (_UNKNOWN,))

    def _tokens(self, text: str) -> list[int]:
        plain = self._plain(text)
        return super()._tokens(plain) if plain else []

    def _plain(self, text: str) -> str:
        """The text as the tokenizer wants it: characters replaced, composed, no space that says nothing.

        Composed, as SentencePiece's own table has it, of which the package has single characters alone: "é" is one
        letter, however it was typed.
        """
        replaced = unicodedata.normalize("NFC", text.translate(self._characters))
        return _SPACES.sub(" ", replaced).strip(" ")
