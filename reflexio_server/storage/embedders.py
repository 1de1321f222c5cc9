"""Which embedding model's vectors searches compare, and which one is to take over."""

from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from reflexio_server.storage import tables, waiting
from reflexio_server.storage.tables import (
    accounts,
    collections,
    interactions,
    live_model,
    models,
    schema_range,
    vectors,
)


@dataclass(frozen=True, slots=True)
class ModelState:
    """The numbers of the live model and of the one that is to take over, None when none is.

    All interactions up to the row number `done` have vectors of the next one too.
    """

    live: int
    next: int | None
    done: int

    @property
    def in_use(self) -> tuple[int, ...]:
        return (self.live,) if self.next is None else (self.live, self.next)


def state(conn: Connection) -> ModelState | None:
    """Which model is live; None before a server first started on this database."""
    row = conn.execute(select(live_model.c.model, live_model.c.next, live_model.c.done)).one_or_none()
    return None if row is None else ModelState(*row)


def live(conn: Connection) -> int:
    return int(conn.execute(select(live_model.c.model)).scalar_one())


def model_id(conn: Connection, number: int) -> str:
    return str(conn.execute(select(models.c.model_id).where(models.c.id == number)).scalar_one())


def begin(conn: Connection, name: str, dimensions: int) -> ModelState:
    """Let the model with this id be live if none is yet: which one is. Needs a write transaction."""
    _alone(conn)
    return state(conn) or choose(conn, register(conn, name, dimensions))


def register(conn: Connection, name: str, dimensions: int) -> int:
    """The number of the model with this id, new if it was never used. Needs a write transaction."""
    _alone(conn)
    number = conn.execute(select(models.c.id).where(models.c.model_id == name)).scalar()
    if number is None:
        added = insert(models).values(model_id=name, dimensions=dimensions).returning(models.c.id)
        number = conn.execute(added).scalar_one()
    return int(number)


def choose(conn: Connection, number: int) -> ModelState:
    """Let this model be live as soon as it can: at once when it is or none was, else when all have its vectors.

    Needs a write transaction.
    """
    _alone(conn)
    found = state(conn)
    if found is None:
        conn.execute(insert(live_model).values(id=1, model=number))
    elif found.live == number:
        conn.execute(update(live_model).values(next=None, done=0))
        conn.execute(delete(collections).where(collections.c.model != number))
    elif found.next != number:
        conn.execute(update(live_model).values(next=number, done=0))
        conn.execute(delete(collections).where(collections.c.model.not_in((found.live, number))))
    chosen = state(conn)
    assert chosen
    return chosen


def replace(conn: Connection, number: int) -> int:
    """Let this model be live at once, though nothing has its vectors: how many interactions now wait for them.

    Needs a write transaction.
    """
    _set_live(conn, number)
    return waiting.let_wait_where(conn, waiting.has_text)


def note_done(conn: Connection, number: int, done: int) -> None:
    """Remember up to which row all have vectors of this model, if it is the next one. Needs a write transaction."""
    conn.execute(update(live_model).where(live_model.c.next == number).values(done=done))


def take_over(conn: Connection, number: int, most_waiting: int) -> bool:
    """Let this model, if it is the next one, be live; at most so many interactions may be without its vectors.

    Those wait for them then.

    Needs a transaction that has locked all accounts.
    """
    _alone(conn)
    found = state(conn)
    if found is None or found.next != number:
        return False
    left = select(interactions.c.id).where(interactions.c.id > found.done, waiting.has_text).limit(most_waiting + 1)
    refs = conn.execute(left).scalars().all()
    if len(refs) > most_waiting:
        return False
    waiting.let_wait(conn, refs)
    waiting.wait_no_more(conn, tables.waiting.c.id <= found.done)
    _set_live(conn, number)
    return True


def stale_vectors(conn: Connection) -> tuple[int, int] | None:
    """An account and a model that is not in use any more, of which it has vectors still; None when there is none."""
    found = state(conn)
    stale = select(models.c.id).where(models.c.id.not_in(found.in_use if found else ()))
    for number in conn.execute(stale).scalars().all() if found else ():
        of_model = (vectors.c.account_id == accounts.c.id) & (vectors.c.model == number)
        account_id = conn.execute(select(accounts.c.id).where(exists().where(of_model)).limit(1)).scalar()
        if account_id is not None:
            return account_id, number
    return None


def drop_vectors(conn: Connection, account_id: int, number: int, most: int) -> None:
    """Delete up to so many of an account's vectors of a model. Needs a transaction that has locked the account."""
    of_model = (vectors.c.account_id == account_id) & (vectors.c.model == number)
    some = select(vectors.c.id).where(of_model).limit(most)
    conn.execute(delete(vectors).where(vectors.c.id.in_(some)))


def progress(conn: Connection, done: int) -> tuple[int, int]:
    """How many interactions with text there are up to this row number, and in all."""
    count = select(func.count()).select_from(interactions)
    so_far = conn.execute(count.where(waiting.has_text, interactions.c.id <= done)).scalar_one()
    return so_far, conn.execute(count.where(waiting.has_text)).scalar_one()


def _alone(conn: Connection) -> None:
    """Let nobody else decide about models before this transaction ends: the row is one that is always there."""
    conn.execute(select(schema_range.c.id).with_for_update())


def _set_live(conn: Connection, number: int) -> None:
    conn.execute(update(live_model).values(model=number, next=None, done=0))
    conn.execute(delete(collections).where(collections.c.model != number))
