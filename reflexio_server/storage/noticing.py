"""How far each account is, for who follows what other processes write."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from reflexio_server.storage.tables import account_counters


@dataclass(frozen=True, slots=True)
class Progress:
    """Of an account its position, which rises with all that is stored and erased, its newest vector, and how much of it
    was erased."""

    position: int
    newest_vector: int
    erased: int


def progress(conn: Connection) -> dict[int, Progress]:
    """Of every account, by its number."""
    one = account_counters.c
    query = select(one.account_id, one.position, one.newest_vector, one.erased)
    return {account_id: Progress(*figures) for account_id, *figures in conn.execute(query)}
