"""Which Chroma collection of an account is live, how far it has followed its vectors, and what a report says of it."""

from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, case, delete, func, insert, literal, or_, select, true, update

from reflexio_server.storage import embedders
from reflexio_server.storage.tables import accounts, collections, interactions, vectors, waiting

EXACT_ACCOUNT = 5_000
"""An account that has no more vectors of a model gets no collection of them: searches compare all of them.

A collection takes 4 files and 2.6 MB at least. One that is there stays until half as many are left.
"""


def name_prefix(account_id: int, model: int) -> str:
    """What the names of this account's collections of a model begin with; a generation follows."""
    return f"account-{account_id}-model-{model}-"


@dataclass(frozen=True, slots=True)
class Collection:
    """The live collection of an account and model: it holds all their vectors up to the stamp `applied`.

    `folder` is the number of the folder it is in, and `generation` tells it from others there.
    """

    account_id: int
    model: int
    folder: int
    generation: int
    applied: int

    @property
    def name(self) -> str:
        return f"{name_prefix(self.account_id, self.model)}{self.generation}"

    def up_to(self, applied: int) -> "Collection":
        return replace(self, applied=applied)


@dataclass(frozen=True, slots=True)
class AccountIndex:
    """What there is of an account: counts, and times in microseconds UTC.

    `waiting` counts the interactions that wait for their vectors; `in_chroma` the vectors that the live collection
    holds by what was noted when they were put in, None where there are so few vectors that it needs none.
    `generation` None: there is no collection.
    """

    account_id: int
    email: str
    interactions: int
    waiting: int
    vectors: int
    in_chroma: int | None
    generation: int | None
    rebuilt_at: int | None
    verified_at: int | None


_columns = (
    collections.c.account_id,
    collections.c.model,
    collections.c.folder,
    collections.c.generation,
    collections.c.applied,
)


def live_collections(conn: Connection, *numbers: int) -> list[Collection]:
    """The live collections of the models with these numbers."""
    query = select(*_columns).where(collections.c.model.in_(numbers))
    return [Collection(*row) for row in conn.execute(query.order_by(collections.c.account_id))]


def in_use(conn: Connection) -> list[Collection]:
    """The live collections of every model whose vectors are kept."""
    state = embedders.state(conn)
    return live_collections(conn, *state.in_use) if state else []


def live_collection(conn: Connection, account_id: int, model: int) -> Collection | None:
    """The account's live collection, None before its first vector was applied, and where it has few vectors."""
    query = select(*_columns).where(collections.c.account_id == account_id, collections.c.model == model)
    row = conn.execute(query).one_or_none()
    return None if row is None else Collection(*row)


def has_more(conn: Connection, account_id: int, model: int, count: int) -> bool:
    """Whether the account has more vectors of a model than this."""
    return bool(conn.execute(select(_has_more(literal(account_id), literal(model), count))).scalar())


def _has_more(account_id: ColumnElement[int], model: ColumnElement[int], count: int) -> ColumnElement[bool]:
    of_account = select(vectors.c.id).where(vectors.c.account_id == account_id, vectors.c.model == model)
    return of_account.limit(1).offset(count).correlate(accounts, collections).exists()


def lagging_accounts(conn: Connection, model: int) -> list[int]:
    """Accounts with vectors that their collection, if they are to have one, does not hold yet."""
    newest = select(vectors.c.account_id, func.max(vectors.c.id).label("stamp"), func.count().label("vectors")).where(
        vectors.c.model == model
    )
    by_account = newest.group_by(vectors.c.account_id).subquery()
    query = (
        select(by_account.c.account_id)
        .outerjoin(collections, (collections.c.account_id == by_account.c.account_id) & (collections.c.model == model))
        .where(
            or_(
                collections.c.applied.is_(None) & (by_account.c.vectors > EXACT_ACCOUNT),
                collections.c.applied < by_account.c.stamp,
            )
        )
    )
    return list(conn.execute(query).scalars())


def count_not_applied(conn: Connection, model: int) -> int:
    """How many vectors of a model collections are to hold and do not yet; takes as long as there are many."""
    of_account = (vectors.c.account_id == accounts.c.id) & (vectors.c.model == model)
    behind = (
        select(func.count())
        .select_from(vectors)
        .where(of_account, vectors.c.id > func.coalesce(collections.c.applied, 0))
        .scalar_subquery()
    )
    query = select(func.sum(case((_needs_none(model), 0), else_=behind))).select_from(
        accounts.outerjoin(collections, (collections.c.account_id == accounts.c.id) & (collections.c.model == model))
    )
    return conn.execute(query).scalar() or 0


def _needs_none(model: int) -> ColumnElement[bool]:
    """That an account, beside which there is its collection if any, has none and is to have none."""
    return collections.c.applied.is_(None) & ~_has_more(accounts.c.id, literal(model), EXACT_ACCOUNT)


def set_live(conn: Connection, collection: Collection, rebuilt_at: int | None = None) -> None:
    """Let this be the live collection, as far as it has followed. Needs a write transaction."""
    row = (collections.c.account_id == collection.account_id) & (collections.c.model == collection.model)
    values = {"folder": collection.folder, "generation": collection.generation, "applied": collection.applied}
    if rebuilt_at is not None:
        values["rebuilt_at"] = rebuilt_at
    if conn.execute(update(collections).where(row).values(values)).rowcount == 0:
        new = {"account_id": collection.account_id, "model": collection.model, **values}
        conn.execute(insert(collections).values(new))


def note_verified(conn: Connection, collection: Collection, now: int) -> None:
    """Remember that the account's live collection was held against its vectors. Needs a write transaction."""
    row = (collections.c.account_id == collection.account_id) & (collections.c.model == collection.model)
    conn.execute(update(collections).where(row).values(verified_at=now))


def drop_collections(conn: Connection) -> None:
    """Let every collection be built anew. Needs a write transaction."""
    conn.execute(delete(collections))


def drop_small(conn: Connection) -> None:
    """Let go of collections of few vectors, which are compared anyway. Needs a write transaction."""
    kept = _has_more(collections.c.account_id, collections.c.model, EXACT_ACCOUNT // 2)
    conn.execute(delete(collections).where(~kept))


def report(conn: Connection, model: int, account_id: int | None = None) -> list[AccountIndex]:
    """What there is of this account, or of each one, oldest account first."""
    of_account = interactions.c.account_id == accounts.c.id
    of_model = (vectors.c.account_id == accounts.c.id) & (vectors.c.model == model)
    held = (
        select(func.count())
        .select_from(vectors)
        .where(of_model, vectors.c.id <= func.coalesce(collections.c.applied, 0))
        .scalar_subquery()
    )
    query = (
        select(
            accounts.c.id,
            accounts.c.email,
            select(func.count()).select_from(interactions).where(of_account).scalar_subquery(),
            select(func.count()).select_from(waiting).where(waiting.c.account_id == accounts.c.id).scalar_subquery(),
            select(func.count()).select_from(vectors).where(of_model).scalar_subquery(),
            case((_needs_none(model), None), else_=held),
            collections.c.generation,
            collections.c.rebuilt_at,
            collections.c.verified_at,
        )
        .outerjoin(collections, (collections.c.account_id == accounts.c.id) & (collections.c.model == model))
        .where(true() if account_id is None else accounts.c.id == account_id)
        .order_by(accounts.c.id)
    )
    return [AccountIndex(*row) for row in conn.execute(query)]
