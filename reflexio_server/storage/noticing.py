"""How far each account is, for who follows what other processes write."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from reflexio_server.storage import embedders
from reflexio_server.storage.tables import accounts, vectors


@dataclass(frozen=True, slots=True)
class Progress:
    """Of an account the newest vector of each model in use, how much was erased, and the last sequence."""

    newest: tuple[int, ...]
    erased: int
    last_sequence: int


def progress(conn: Connection) -> dict[int, Progress]:
    """Of every account, by its number."""
    state = embedders.state(conn)
    newest = [
        func.coalesce(
            select(vectors.c.id)
            .where(vectors.c.account_id == accounts.c.id, vectors.c.model == model)
            .order_by(vectors.c.id.desc())
            .limit(1)
            .scalar_subquery(),
            0,
        )
        for model in (state.in_use if state else ())
    ]
    query = select(accounts.c.id, accounts.c.erased, accounts.c.last_sequence, *newest)
    return {number: Progress(tuple(stamps), erased, last) for number, erased, last, *stamps in conn.execute(query)}
