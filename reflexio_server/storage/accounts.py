"""Accounts and their API keys. Writing functions need a write transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from reflexio_server.model import Account, ApiKey, Caller
from reflexio_server.storage.tables import account_counters, accounts, api_keys, images, interactions, users

_account_columns = (accounts.c.id, accounts.c.email, accounts.c.tag, accounts.c.created_at, accounts.c.disabled_at)
_key_columns = (api_keys.c.key_id, api_keys.c.hint, api_keys.c.created_at, api_keys.c.revoked_at)


@dataclass(frozen=True, slots=True)
class Totals:
    """How many there are of each."""

    accounts: int
    users: int
    interactions: int
    images: int


def add_account(conn: Connection, email: str, tag: str, password_hash: str, now: int) -> bool:
    if conn.execute(select(accounts.c.id).where(accounts.c.email == email)).scalar() is not None:
        return False
    new = insert(accounts).values(email=email, tag=tag, password_hash=password_hash, created_at=now)
    account_id = conn.execute(new.returning(accounts.c.id)).scalar_one()
    conn.execute(insert(account_counters).values(account_id=account_id))
    return True


def find_login(conn: Connection, email: str) -> tuple[Account, str] | None:
    """The account with this email and its password's hash."""
    row = conn.execute(
        select(*_account_columns, accounts.c.password_hash).where(accounts.c.email == email)
    ).one_or_none()
    return None if row is None else (_account(row), row.password_hash)


def set_password(conn: Connection, account_id: int, password_hash: str) -> None:
    conn.execute(update(accounts).where(accounts.c.id == account_id).values(password_hash=password_hash))


def set_disabled(conn: Connection, account_id: int, disabled_at: int | None) -> None:
    """Disable an account from this moment on, or enable it with None."""
    conn.execute(update(accounts).where(accounts.c.id == account_id).values(disabled_at=disabled_at))


def numbers(conn: Connection) -> list[int]:
    """The account_id of every account."""
    return list(conn.execute(select(accounts.c.id)).scalars())


def list_accounts(conn: Connection) -> list[tuple[Account, int]]:
    """Every account with the number of its interactions, oldest first."""
    count = (
        select(func.count())
        .where(interactions.c.account_id == accounts.c.id)
        .correlate(accounts)
        .scalar_subquery()
        .label("interactions")
    )
    rows = conn.execute(select(*_account_columns, count).order_by(accounts.c.id))
    return [(_account(row), row.interactions) for row in rows]


def add_key(conn: Connection, account_id: int, key: ApiKey, key_hash: bytes) -> None:
    """Add a key, unless it is there: a commit whose answer was lost is done again."""
    if conn.execute(select(api_keys.c.key_id).where(api_keys.c.key_id == key.key_id)).scalar() is not None:
        return
    conn.execute(
        insert(api_keys).values(
            key_id=key.key_id, account_id=account_id, key_hash=key_hash, hint=key.hint, created_at=key.created_at
        )
    )


def find_caller(conn: Connection, key_hash: bytes) -> Caller | None:
    """The valid key with this hash and its account; None when it is unknown, revoked, or the account disabled."""
    row = conn.execute(
        select(*_account_columns, *(column.label(f"key_{column.name}") for column in _key_columns))
        .join_from(api_keys, accounts, accounts.c.id == api_keys.c.account_id)
        .where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None), accounts.c.disabled_at.is_(None))
    ).one_or_none()
    if row is None:
        return None
    return Caller(_account(row), ApiKey(row.key_key_id, row.key_hint, row.key_created_at, row.key_revoked_at))


def list_keys(conn: Connection, account_id: int, before: str | None, limit: int) -> list[ApiKey]:
    """Keys of an account, newest first, after the key with the id `before`."""
    query = select(*_key_columns).where(api_keys.c.account_id == account_id)
    if before is not None:
        query = query.where(api_keys.c.key_id < before)
    rows = conn.execute(query.order_by(api_keys.c.key_id.desc()).limit(limit))
    return [ApiKey(*row) for row in rows]


def revoke_key(conn: Connection, account_id: int, key_id: str, now: int) -> tuple[ApiKey, bytes] | None:
    """Revoke a key of the account; the key and its hash, None when the account has no such key."""
    mine = (api_keys.c.account_id == account_id) & (api_keys.c.key_id == key_id)
    conn.execute(update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=now))
    row = conn.execute(select(*_key_columns, api_keys.c.key_hash).where(mine)).one_or_none()
    return None if row is None else (ApiKey(*row[:4]), row.key_hash)


def revoke_keys(conn: Connection, account_id: int, now: int) -> int:
    """Revoke every key of the account; how many were valid before."""
    valid = (api_keys.c.account_id == account_id) & api_keys.c.revoked_at.is_(None)
    return conn.execute(update(api_keys).where(valid).values(revoked_at=now)).rowcount


def counts(conn: Connection) -> tuple[int, int]:
    stored = func.sum(account_counters.c.last_sequence - account_counters.c.erased)
    row = conn.execute(select(func.count(), func.coalesce(stored, 0)).select_from(account_counters)).one()
    return row[0], int(row[1])


def totals(conn: Connection) -> Totals:
    """What is stored of all accounts. Users and pictures are counted one by one: a million take some 50 ms."""
    number, rows = counts(conn)
    people, pictures = (conn.execute(select(func.count()).select_from(table)).scalar_one() for table in (users, images))
    return Totals(number, people, rows, pictures)


def _account(row: Any) -> Account:
    return Account(row.id, row.email, row.tag, row.created_at, row.disabled_at)
