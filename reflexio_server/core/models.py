"""The embedding models at hand, by the number that their vectors carry."""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from reflexio_server.index.embedder import Embedder
from reflexio_server.storage import models


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """An embedding model and its number in the database."""

    number: int
    embedder: Embedder


class Models:
    """The loaded models: the live one, and while another is to take over, that one too."""

    def __init__(self, loaded: Iterable[LoadedModel]) -> None:
        self._loaded = {model.number: model for model in loaded}

    def live(self, conn: Connection) -> LoadedModel:
        """The model that is live in this snapshot."""
        return self._loaded[models.live(conn)]
