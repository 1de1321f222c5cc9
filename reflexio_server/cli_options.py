"""What the commands share: settings as flags, the database of a data directory, and errors in a line."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any, get_args

import click
from pydantic import ValidationError
from sqlalchemy.exc import DatabaseError

from reflexio_server.config import ENVIRONMENT_PREFIX, HomeUnknown, Settings
from reflexio_server.storage.database import (
    DATABASE_FILE,
    Database,
    DatabaseUnusable,
    DataDirectoryInUse,
    own,
    what_is_wrong,
)

Command = Callable[..., None]


def settings_options(*names: str) -> Callable[[Command], Command]:
    """Flags for these settings (all when none is named); the command gets them as one Settings object.

    Only these are read from the environment too: what else is set there, rightly or wrongly, is not the command's.
    """
    wanted = names or tuple(Settings.model_fields)
    others = {
        name: Path("/") if field.default_factory else field.default
        for name, field in Settings.model_fields.items()
        if name not in wanted
    }

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**given: Any) -> None:
            chosen = {name: given.pop(name) for name in list(given) if name in Settings.model_fields}
            chosen = {name: value for name, value in chosen.items() if value is not None}
            command(settings=_settings(**others, **chosen), **given)

        decorated: Command = run
        for name in reversed(wanted):
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
    except HomeUnknown as error:
        raise click.UsageError(str(error)) from None
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


@contextmanager
def folder_errors() -> Iterator[None]:
    """Tells of a folder or file that cannot be used, in a line."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise
        reason = "it is not a folder" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        text = f"cannot use {error.filename}: {reason}; check --data-dir and --model-dir"
        raise click.ClickException(text) from None


@contextmanager
def open_database(settings: Settings, *, create: bool = False, owning: bool = True) -> Iterator[tuple[Database, bool]]:
    """The database of a data directory, and whether this process owns the directory: else a server is running on it.

    With `owning` False the directory is left to a server that starts meanwhile, unless the schema is to be brought up
    to this version, which only an owner may do. With `create` it is made when it is not there.
    """
    if not create and not (settings.data_dir / DATABASE_FILE).exists():
        raise click.ClickException(f"there is no database in {settings.data_dir}: check --data-dir")
    with ExitStack() as opened:
        opened.enter_context(folder_errors())
        database, owner = (None if owning else _beside(settings)), False
        if database is None:
            with suppress(DataDirectoryInUse):
                opened.enter_context(own(settings.data_dir))
                owner = True
            try:
                database = Database(settings.data_dir, owner=owner)
            except DatabaseUnusable as error:
                raise click.ClickException(str(error)) from None
        opened.callback(database.close)
        try:
            yield database, owner
        except DatabaseError as error:
            raise click.ClickException(what_is_wrong(settings.data_dir / DATABASE_FILE, error)) from None


def _beside(settings: Settings) -> Database | None:
    """The database without owning its directory; None when its schema is not this version's, or it is damaged."""
    try:
        return Database(settings.data_dir, owner=False)
    except DatabaseUnusable:
        return None
