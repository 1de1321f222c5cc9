"""Which embedding model a server starts with.

Who has a store alone chooses it at each start. Where several servers share one, a wrong setting of one would cost all
vectors: the first server chooses, and later ones must be given the model in use; `model use` lets another take over.
"""

import logging

from reflexio_server.core.embedders import Embedders, Load, NumberedEmbedder
from reflexio_server.index.embedder import Embedder
from reflexio_server.index.loading import name_of
from reflexio_server.storage import embedders
from reflexio_server.storage.database import Database
from reflexio_server.storage.embedders import ModelState
from reflexio_server.storage.writer import Writer

logger = logging.getLogger(__name__)


class OtherModel(Exception):
    """The store's searches use another model than the server was given; the text says which, and what to do."""


def choose(database: Database, writer: Writer, embedder: Embedder, load: Load) -> Embedders:
    """The models at hand, of which `embedder` is live or to take over. Raises OtherModel.

    `load` gives those that turn out to be needed too, see `Embedders`.
    """
    if database.is_shared:
        with database.read() as conn:
            state = embedders.state(conn)
        if state is None:
            state = writer.submit(lambda conn: embedders.begin(conn, embedder.model_id, embedder.dimensions)).result()
        number = _number_in_use(database, state, embedder)
        return Embedders([NumberedEmbedder(number, embedder)], load)
    number = writer.submit(lambda conn: embedders.register(conn, embedder.model_id, embedder.dimensions)).result()
    wanted = NumberedEmbedder(number, embedder)
    state = writer.submit(lambda conn: embedders.choose(conn, number)).result()
    if state.live == number:
        return Embedders([wanted], load)
    with database.read() as conn:
        old_id = embedders.model_id(conn, state.live)
    old = load(old_id)
    if old is None:
        released = writer.submit(lambda conn: embedders.replace(conn, number)).result()
        logger.warning("%s is not here any more: %d interactions wait for other vectors", old_id, released)
        return Embedders([wanted], load)
    logger.info("%s is to take over from %s, which answers until then", embedder.model_id, old_id)
    return Embedders([NumberedEmbedder(state.live, old), wanted], load)


def _number_in_use(database: Database, state: ModelState, embedder: Embedder) -> int:
    with database.read() as conn:
        of = {embedders.model_id(conn, number): number for number in state.in_use}
    if embedder.model_id in of:
        return of[embedder.model_id]
    name, other = name_of(embedder.model_id), next(iter(of))
    instead = f"start with --embedder {name_of(other)}, or " if name_of(other) != name else ""
    raise OtherModel(
        f"{database.name} has vectors of {other}, and this server would make those of {embedder.model_id}: {instead}"
        f"let that one take over with `reflexio-server model use {name}`"
    )
