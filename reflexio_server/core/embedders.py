"""The embedding models at hand, by the number that their vectors carry."""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from reflexio.supervised import say
from reflexio_server.errors import ModelNotHere
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import name_of
from reflexio_server.shortage import shortage
from reflexio_server.storage import embedders
from reflexio_server.storage.vectors import Matrix
from reflexio_server.storage.waiting import Waiting

logger = logging.getLogger(__name__)

Load = Callable[[str], Embedder | None]
"""Gives the embedder of a model_id, None when its files are not here."""

_LOOK_AGAIN_SECONDS = 30.0  # after which it is looked again for a model's files
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
    """The models at hand: those that were loaded at the start, and any that became live, or is to, when it is needed.

    Whoever asks for one that cannot be loaded gets ModelNotHere, and the log says what to install.
    """

    def __init__(self, loaded: Iterable[NumberedEmbedder], load: Load) -> None:
        self._loaded = {model.number: model for model in loaded}
        self._load = load
        self._loading = threading.Lock()
        self._again: dict[int, float] = {}  # by number of what is not here, when it is looked for again

    def live(self, conn: Connection) -> NumberedEmbedder:
        return self.numbered(conn, embedders.live(conn))

    def of(self, conn: Connection, number: int) -> Embedder:
        """The model with this number."""
        return self.numbered(conn, number).embedder

    def numbered(self, conn: Connection, number: int) -> NumberedEmbedder:
        """The same with its number."""
        return self._loaded.get(number) or self._found(conn, number)

    def _found(self, conn: Connection, number: int) -> NumberedEmbedder:
        with self._loading:
            if number in self._loaded:
                return self._loaded[number]
            if time.monotonic() < self._again.get(number, 0.0):
                raise ModelNotHere
            model_id = embedders.model_id(conn, number)
            embedder = self._load(model_id)
            if embedder is None:
                self._again[number] = time.monotonic() + _LOOK_AGAIN_SECONDS
                name = name_of(model_id)
                how = f"run `reflexio-server model install --embedder {name}`" if name else "this version has none such"
                say(logger.error, "the store uses %s, whose files are not here: %s", model_id, how)
                raise ModelNotHere
            say(logger.info, "%s is in use, and was loaded", model_id)
            self._loaded[number] = NumberedEmbedder(number, embedder)
            return self._loaded[number]
