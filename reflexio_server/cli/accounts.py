"""`reflexio-server accounts` and `reflexio-server keys`: who may use the server. All work beside a running one."""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

import click
from sqlalchemy import Connection

from reflexio_server.cli.options import open_database
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.clock import now_us
from reflexio_server.config import Settings
from reflexio_server.core import audit
from reflexio_server.core.accounts import hash_password, new_account, normal_email
from reflexio_server.errors import InvalidInput
from reflexio_server.model import Account
from reflexio_server.storage import accounts as store
from reflexio_server.storage import dialect

T = TypeVar("T")

MOST_KEYS = 10_000
_EFFECT = "A running server heeds it within 30 seconds."

yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")


@click.group()
def accounts() -> None:
    """Make, list and change accounts; a server may be running."""
    _audit_to_stderr()


@click.group()
def keys() -> None:
    """List and revoke the API keys of an account; a server may be running."""
    _audit_to_stderr()


@accounts.command()
@click.argument("email")
@settings_options(*STORE)
def create(settings: Settings, email: str) -> None:
    """Make an account. The password is asked for on a terminal, and else read from standard input (one line)."""
    try:
        normal, tag, password_hash = new_account(email, _password())
    except InvalidInput as error:
        raise click.ClickException(str(error)) from None
    with open_database(settings, create=True) as (database, _), database.write() as conn:
        added = store.add_account(conn, normal, tag, password_hash, now_us())
        made_in = settings.data_dir if settings.database is None else database.name
    if not added:
        raise click.ClickException(f"there is an account for {normal} already")
    audit.record("account created", account=tag)
    click.echo(f"Made the account {normal} in {made_in}.")


@accounts.command("list")
@settings_options(*STORE)
def list_accounts(settings: Settings) -> None:
    """List the accounts with the number of their interactions."""
    with open_database(settings, owning=False) as (database, _), database.read() as conn:
        found = store.list_accounts(conn)
    for account, interactions in found:
        state = f"\tdisabled {_day(account.disabled_at)}" if account.disabled_at is not None else ""
        click.echo(
            f"{account.email}\t{account.tag}\tmade {_day(account.created_at)}\t{interactions} interactions{state}"
        )
    if not found:
        click.echo("There is no account yet: reflexio-server accounts create EMAIL", err=True)


@accounts.command()
@click.argument("email")
@settings_options(*STORE)
@click.option("--revoke-keys", is_flag=True, help="Revoke the account's keys too: everybody has to log in again.")
def passwd(settings: Settings, email: str, revoke_keys: bool) -> None:
    """Change an account's password, asked for or read as by `create`.

    The old one is worth nothing from now on. API keys go on working, unless --revoke-keys is given.
    """
    _must_exist(settings, email)
    try:
        hashed = hash_password(_password())
    except InvalidInput as error:
        raise click.ClickException(str(error)) from None

    def change(conn: Connection, account: Account) -> int:
        store.set_password(conn, account.account_id, hashed)
        return store.revoke_keys(conn, account.account_id, now_us()) if revoke_keys else 0

    account, revoked = _change(settings, email, change)
    audit.record("password changed", account=account.tag, keys_revoked=revoked)
    click.echo(f"Changed the password of {account.email}.{f' Revoked {revoked} keys.' if revoke_keys else ''}")


@accounts.command()
@click.argument("email")
@settings_options(*STORE)
def disable(settings: Settings, email: str) -> None:
    """Let nobody log in to an account, nor use its keys, until it is enabled again; its data stays.

    A running server heeds it within 30 seconds.
    """

    def change(conn: Connection, account: Account) -> None:
        if account.disabled_at is not None:
            raise click.ClickException(f"{account.email} is disabled since {_day(account.disabled_at)}")
        store.set_disabled(conn, account.account_id, now_us())

    account, _ = _change(settings, email, change)
    audit.record("account disabled", account=account.tag)
    click.echo(f"Disabled {account.email}. {_EFFECT}")


@accounts.command()
@click.argument("email")
@settings_options(*STORE)
def enable(settings: Settings, email: str) -> None:
    """Let an account that was disabled be used again, with the keys and the password it had."""

    def change(conn: Connection, account: Account) -> None:
        if account.disabled_at is None:
            raise click.ClickException(f"{account.email} is not disabled")
        store.set_disabled(conn, account.account_id, None)

    account, _ = _change(settings, email, change)
    audit.record("account enabled", account=account.tag)
    click.echo(f"Enabled {account.email}.")


@keys.command("list")
@click.argument("email")
@settings_options(*STORE)
def list_keys(settings: Settings, email: str) -> None:
    """List the keys of an account, newest first: id, beginning, when it was made and revoked. No secrets."""
    with open_database(settings, owning=False) as (database, _), database.read() as conn:
        account = _find(conn, email)
        found = store.list_keys(conn, account.account_id, None, MOST_KEYS + 1)
    for key in found[:MOST_KEYS]:
        state = "valid" if key.revoked_at is None else f"revoked {_moment(key.revoked_at)}"
        click.echo(f"{key.key_id}\t{key.hint}…\tmade {_moment(key.created_at)}\t{state}")
    if not found:
        click.echo(f"{account.email} has no key yet: each login makes one", err=True)
    elif len(found) > MOST_KEYS:
        click.echo(f"These are the newest {MOST_KEYS:,}; there are more.", err=True)


@keys.command()
@click.argument("email")
@click.argument("key_ids", nargs=-1, metavar="[KEY_ID]...")
@settings_options(*STORE)
@click.option("--all", "every", is_flag=True, help="Revoke all keys of the account.")
@yes_option
def revoke(settings: Settings, email: str, key_ids: tuple[str, ...], every: bool, yes: bool) -> None:
    """Revoke keys of an account for good, by the ids that `keys list` shows. All of them, or none when one is wrong.

    A running server heeds it within 30 seconds, open streams included. It is asked for confirmation on a terminal;
    elsewhere --yes is needed.
    """
    if every == bool(key_ids):
        raise click.UsageError("give the ids of the keys (`reflexio-server keys list EMAIL` shows them), or --all")
    account = _must_exist(settings, email)
    _confirm(f"Revoke {'all keys' if every else f'{len(key_ids)} keys'} of {account.email} for good?", yes)

    def change(conn: Connection, account: Account) -> int:
        if every:
            return store.revoke_keys(conn, account.account_id, now_us())
        for key_id in key_ids:
            if store.revoke_key(conn, account.account_id, key_id, now_us()) is None:
                raise click.ClickException(f"{account.email} has no key {key_id}: nothing was revoked")
        return len(key_ids)

    account, revoked = _change(settings, email, change)
    for key_id in key_ids:
        audit.record("key revoked", account=account.tag, key_id=key_id)
    if every:
        audit.record("all keys revoked", account=account.tag, keys_revoked=revoked)
    click.echo(f"Revoked {revoked} keys of {account.email}. {_EFFECT}")


def _change(settings: Settings, email: str, change: Callable[[Connection, Account], T]) -> tuple[Account, T]:
    """Do this to an account in one transaction."""
    with open_database(settings, owning=False) as (database, _), database.write() as conn:
        account = _find(conn, email)
        dialect.of(conn).lock_accounts(conn, [account.account_id])
        return account, change(conn, account)


def _must_exist(settings: Settings, email: str) -> Account:
    """The account, before its owner is asked for anything."""
    with open_database(settings, owning=False) as (database, _), database.read() as conn:
        return _find(conn, email)


def _find(conn: Connection, email: str) -> Account:
    found = store.find_login(conn, normal_email(email))
    if found is None:
        raise click.ClickException(f"there is no account {printable(email)}: see `reflexio-server accounts list`")
    return found[0]


def printable(text: str) -> str:
    """A text from the command line as it may be shown."""
    return text if text.isprintable() else ascii(text)


def _password() -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt("Password", hide_input=True, confirmation_prompt="Once more")
        return typed
    try:
        line: bytes = sys.stdin.buffer.readline()
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise click.ClickException("password: must be UTF-8") from None


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("this cannot be undone: say --yes, as there is no terminal to ask on")
    click.confirm(question, abort=True)


def _audit_to_stderr() -> None:
    """The server's log is another process's; what is done here is told where its caller can keep it."""
    from reflexio_server.logs import TextFormatter  # imported here, as it takes a moment

    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter())
    level = audit.logger.level
    audit.logger.addHandler(handler)
    audit.logger.setLevel(logging.INFO)

    @click.get_current_context().call_on_close
    def _as_before() -> None:
        audit.logger.removeHandler(handler)
        audit.logger.setLevel(level)


def _day(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d")


def _moment(micros: int) -> str:
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
