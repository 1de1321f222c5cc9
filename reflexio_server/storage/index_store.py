"""By what the store's index is known on a Chroma server, where several processes have no folder in common."""

import secrets

from sqlalchemy import Connection, delete, select, text

from reflexio_server.storage import dialect
from reflexio_server.storage.tables import index_store

_ADD = text("INSERT INTO index_store (id, name, database) VALUES (1, :name, :database) ON CONFLICT DO NOTHING")


def store_id(conn: Connection) -> str:
    """The id of the store in this database, which is made when there is none: 16 hexadecimal digits.

    A database that was copied is another store, as far as that can be told: were its collections those of the first,
    each would spoil the other's. Needs a write transaction.
    """
    database = dialect.of(conn).database_id(conn)
    conn.execute(delete(index_store).where(index_store.c.database != database))
    conn.execute(_ADD, {"name": secrets.token_hex(8), "database": database})
    return str(conn.execute(select(index_store.c.name)).scalar_one())


def has_store(conn: Connection) -> bool:
    """Whether its index was on a Chroma server, and may still be."""
    return conn.execute(select(index_store.c.id)).first() is not None
