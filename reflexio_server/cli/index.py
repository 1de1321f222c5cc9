"""`reflexio-server index`: what there is, and the jobs that whoever leads does."""

import json
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import click

from reflexio_server.cli.accounts import printable
from reflexio_server.cli.options import bar, open_database
from reflexio_server.cli.settings import STORE, settings_options
from reflexio_server.clock import now_us
from reflexio_server.config import CHROMA_SETTINGS, Settings
from reflexio_server.core.accounts import normal_email
from reflexio_server.core.watching import troubles
from reflexio_server.storage import accounts as account_store
from reflexio_server.storage import collections, embedders, index_store, jobs
from reflexio_server.storage.collections import AccountIndex
from reflexio_server.storage.database import Database
from reflexio_server.storage.jobs import Job

_LOOK_SECONDS = 0.2
_OWNER_SECONDS = 2.0  # how often it is looked whether the server that does the job still runs

account_option = click.option("--account", "email", metavar="EMAIL", help="Only this account's. Default: every one's.")


@click.group()
def index() -> None:
    """Look after the search index; a server may be running.

    The index is made from the database and can be lost: what `rebuild` and `verify` do is never needed to keep data.
    A running server does their work, and answers as before meanwhile; without one they do it themselves, and are to be
    given the Chroma server that it has, if it has one.
    """


@dataclass(frozen=True, slots=True)
class Report:
    """What `index status` tells; `next_done` of `next_total` interactions have vectors of the model to come.

    `failing`: threads of the running server whose work ends by a failure and begins anew, and by what it ended last.
    """

    model: str | None
    next_model: str | None
    next_done: int
    next_total: int
    accounts: list[AccountIndex]
    failing: dict[str, str] = field(default_factory=dict)


@index.command()
@settings_options(*STORE)
@account_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object; times are in microseconds since 1970 UTC.")
def status(settings: Settings, email: str | None, as_json: bool) -> None:
    """Show for each account how much is stored, has vectors, and is in Chroma.

    interactions: what is stored. waiting: those that wait for their vectors, and are found by their words until then.
    vectors: a long text has several, one without words none. in Chroma: how many of them searches of the whole account
    find there; the rest is compared one by one, and with few (-) all are. generation: how often the account's index
    was built.
    """
    with open_database(settings, owning=False) as (database, _):
        report = _report(database, email)
        if database.is_owned():
            report = replace(report, failing=troubles(settings.data_dir))
    if as_json:
        click.echo(json.dumps(asdict(report)))
        return
    click.echo(f"Model: {report.model or 'none yet, as no server has run here'}")
    if report.next_model:
        click.echo(
            f"To take over: {report.next_model}, {report.next_done:,} of {report.next_total:,} interactions done"
        )
    for thread, error in report.failing.items():
        click.echo(f"Failing: the thread {thread} of the server, by {error}; it is tried again, the log says more")
    rows = [
        ("account", "interactions", "waiting", "vectors", "in Chroma", "generation", "rebuilt", "verified"),
        *(
            (
                one.email,
                f"{one.interactions:,}",
                f"{one.waiting:,}",
                f"{one.vectors:,}",
                "-" if one.in_chroma is None else f"{one.in_chroma:,}",
                str(one.generation or "-"),
                _moment(one.rebuilt_at),
                _moment(one.verified_at),
            )
            for one in report.accounts
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = [name.ljust(widths[0]), *(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))]
        click.echo("  ".join(cells))


@index.command()
@settings_options(*STORE, *CHROMA_SETTINGS)
@account_option
def rebuild(settings: Settings, email: str | None) -> None:
    """Build the index anew beside the live one, and swap it in.

    It is made from the vectors in the database, so nothing is embedded again. Searches go on with the live index until
    the new one is complete; when it is broken off, the live one stays.
    """
    _do("rebuild", settings, email)


@index.command()
@settings_options(*STORE, *CHROMA_SETTINGS)
@account_option
def verify(settings: Settings, email: str | None) -> None:
    """Hold the index against the database, and repair what differs.

    Vectors that the index lacks are added, those that it has too many are taken out; some of them are compared and
    searched for. When one is wrong, or more than a twentieth do not find themselves, the account's index is built anew;
    fewer are put in again, as an approximate index misses some. Interactions that lost their vectors get new ones.
    """
    _do("verify", settings, email)


def _report(database: Database, email: str | None) -> Report:
    with database.read() as conn:
        account_id = _account_id(conn, email)
        state = embedders.state(conn)
        found = collections.report(conn, state.live if state else 0, account_id)
        if state is None:
            return Report(None, None, 0, 0, found)
        live = embedders.model_id(conn, state.live)
        if state.next is None:
            return Report(live, None, 0, 0, found)
        return Report(live, embedders.model_id(conn, state.next), *embedders.progress(conn, state.done), found)


def _account_id(conn: Any, email: str | None) -> int | None:
    if email is None:
        return None
    found = account_store.find_login(conn, normal_email(email))
    if found is None:
        raise click.ClickException(f"there is no account {printable(email)}: see `reflexio-server accounts list`")
    return found[0].account_id


def _moment(micros: int | None) -> str:
    return "-" if micros is None else datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _do(kind: str, settings: Settings, email: str | None) -> None:
    with open_database(settings) as (database, owner), ExitStack() as opened:
        with database.read() as conn:
            account_id = _account_id(conn, email)
        now = now_us()
        if owner:
            from reflexio_server.core.following import Follower  # imported here, as numpy takes a while
            from reflexio_server.storage.writer import Writer

            writer = Writer(database, 100)
            opened.callback(writer.close)
            engine = _engine(settings, database, writer)
            job_id = writer.submit(lambda conn: jobs.ask(conn, kind, account_id, now)).result()
            follower = Follower(database, writer, engine)
            opened.callback(follower.stop)
            follower.start()
        else:
            with database.write() as conn:
                job_id = jobs.ask(conn, kind, account_id, now)
        job = _watch(database, job_id, kind, settings, owner)
        if job.state == "failed":
            raise click.ClickException(job.result)
        click.echo(job.result)


def _engine(settings: Settings, database: Database, writer: Any) -> Any:
    """The index's engine; never another than the one that has the index, just because a setting was not given."""
    from reflexio_server.engines import engine_of
    from reflexio_server.index.chroma_folder import CHROMA_FOLDER
    from reflexio_server.index.chroma_store import TokenUnusable, has_store

    with database.read() as conn:
        on_server = has_store(settings.data_dir) if settings.database is None else index_store.has_store(conn)
    if settings.chroma_url is None and on_server:
        with database.read() as conn:
            numbers = {collection.folder for collection in collections.in_use(conn)}
        if any(not (settings.data_dir / CHROMA_FOLDER / str(number)).exists() for number in numbers):
            raise click.ClickException(
                "this store's index is on a Chroma server: give --chroma-url (or REFLEXIO_CHROMA_URL) as the server "
                "has it, or start the server and run the command beside it"
            )
    try:
        return engine_of(settings, writer)
    except TokenUnusable as error:
        raise click.ClickException(str(error)) from None


def _watch(database: Database, job_id: int, kind: str, settings: Settings, owner: bool) -> Job:
    """Wait for the end of a job, and show on a terminal how far it is."""
    looked = time.monotonic()
    with bar(kind) as show:
        while True:
            with database.read() as conn:
                job = jobs.find(conn, job_id)
            show(job.total if job.state == "done" else job.done, job.total)
            if job.state in ("done", "failed"):
                return job
            if not owner and time.monotonic() - looked > _OWNER_SECONDS:
                looked = time.monotonic()
                if not database.is_owned():
                    raise click.ClickException("the server stopped before it was done: run the command again")
            time.sleep(_LOOK_SECONDS)
