"""The embedding models at hand, by the number that their vectors carry."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from reflexio.supervised import say
from reflexio_server.index.embedder import Embedder
from reflexio_server.shortage import shortage
from reflexio_server.storage import embedders
from reflexio_server.storage.vectors import Matrix
from reflexio_server.storage.waiting import Waiting

logger = logging.getLogger(__name__)

_EMBED_PAUSES = (0.05, 0.2)  # seconds before the second and third try of a text that could not be embedded


@dataclass(frozen=True, slots=True)
class NumberedEmbedder:
    """An embedding model and its number in the database."""

    number: int
    embedder: Embedder

    def vectors_of(self, row: Waiting) -> Matrix | None:
        """A row's vectors, one for each chunk of its text that the model can read.

        None when that failed in three tries, which is logged. Raises what was raised when memory or files are short:
        that says nothing of the text.
        """
        for pause in (*_EMBED_PAUSES, None):
            try:
                return self.embedder.embed(row.text)
            except BaseException as error:  # a panic of the tokenizer is no Exception
                if shortage(error):
                    raise
                if pause is not None:
                    time.sleep(pause)
                else:
                    say(logger.exception, "interaction row %d cannot be embedded", row.ref)
        return None

    def no_vectors(self) -> Matrix:
        """What stands for the vectors of a text that has none."""
        return np.zeros((0, self.embedder.dimensions), dtype=np.float32)


class Embedders:
    """The loaded models: the live one, and while another is to take over, that one too."""

    def __init__(self, loaded: Iterable[NumberedEmbedder]) -> None:
        self._loaded = {model.number: model for model in loaded}

    def live(self, conn: Connection) -> NumberedEmbedder:
        return self._loaded[embedders.live(conn)]

    def of(self, number: int) -> Embedder:
        """The model with this number, which is live or to take over."""
        return self._loaded[number].embedder
