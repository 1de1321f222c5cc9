"""Which index there is: Chroma's files below the data directory, or a Chroma server."""

from collections.abc import Callable

from reflexio_server.config import Settings
from reflexio_server.index.chroma_folder import CHROMA_FOLDER, ChromaFolders
from reflexio_server.index.chroma_store import checked_token, read_token, store_id
from reflexio_server.index.nearest import Engine
from reflexio_server.storage import index_store
from reflexio_server.storage.writer import Writer


def engine_of(settings: Settings, writer: Writer) -> Engine:
    """The engine for a store that this process owns, alone or with others.

    Raises TokenUnusable.
    """
    if settings.chroma_url is None:
        return ChromaFolders(settings.data_dir)
    from reflexio_server.index.chroma_server import ChromaServer  # here, as httpx takes a while

    token = _token(settings)
    token()
    return ChromaServer(
        settings.chroma_url,
        settings.chroma_tenant,
        settings.chroma_database,
        store_id(settings.data_dir) if settings.database is None else writer.submit(index_store.store_id).result(),
        token,
        settings.data_dir / CHROMA_FOLDER,
    )


def _token(settings: Settings) -> Callable[[], str | None]:
    if (file := settings.chroma_token_file) is not None:
        return lambda: read_token(file)
    if (secret := settings.chroma_token) is not None:
        return lambda: checked_token(secret.get_secret_value(), "REFLEXIO_CHROMA_TOKEN holds")
    return lambda: None
