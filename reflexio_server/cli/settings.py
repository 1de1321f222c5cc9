"""Settings as flags of a command, each with its environment variable."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import click
from pydantic import SecretStr, ValidationError

from reflexio_server.config import ENVIRONMENT_PREFIX, HomeUnknown, Settings, UrlUnknown

STORE = ("data_dir", "database_url", "database_url_file")
"""The settings that say where everything is kept."""

Command = Callable[..., None]

SECRETS = [
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in get_args(field.annotation) and name != "database_url"  # with a password in it that is refused
]
"""Settings that are variables only: others on the machine see a command's flags."""


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
            if _has_password(chosen.get("database_url", "")):
                raise click.UsageError(
                    "--database-url has a password, which everybody on this machine can read in the list of processes: "
                    f"give it by {ENVIRONMENT_PREFIX}DATABASE_URL or --database-url-file"
                )
            try:
                command(settings=_settings(**others, **chosen), **given)
            except UrlUnknown as error:
                raise click.UsageError(str(error)) from None

        decorated: Command = run
        for name in reversed([name for name in wanted if name not in SECRETS]):
            decorated = _option(name)(decorated)
        return decorated

    return decorate


def _has_password(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.password) or "password" in parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        return True  # whatever it is, it is not shown


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
    if kind is SecretStr:
        kind = str
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
