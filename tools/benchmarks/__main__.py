"""`scripts/bench NAME [--beside REV] [--json]`: a readable table, or one JSON object on the last line."""

import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tools.benchmarks import beside
from tools.benchmarks.beside import Arm

Measure = Callable[[Arm, Arm], Sequence[dict[str, float]]]

beside_option = click.option(
    "--beside",
    "revision",
    metavar="REV",
    help="Instead start this tree's server and that of a revision, from a git worktree with its own environment, fill "
    "and ask both over the wire in turn, and print the ratios new / old. The first minute or two make the environment, "
    "where it is another.",
)
new_arguments_option = click.option(
    "--new-arguments",
    default="",
    help="Flags of `reflexio-server serve` for this tree's servers, such as one that is off unless set.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")


def report(name: str, figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures))
        return
    table = Table(title=name)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for key, value in figures.items():
        for part, number in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{key} {part}".strip(), str(number))
    Console().print(table)


def report_beside(
    name: str, revision: str, arms: AbstractContextManager[tuple[Arm, Arm]], measure: Measure, as_json: bool
) -> None:
    """What this tree's server and the revision's have, and the ratios new / old."""
    with arms as (new_arm, old_arm):
        new, old = measure(new_arm, old_arm)
    ratio = beside.ratio(new, old)
    if as_json:
        click.echo(json.dumps(new | {"ratio": ratio}))
        return
    table = Table(title=f"{name} beside {revision}")
    for title in ("figure", "new", "old", "ratio"):
        table.add_column(title, justify="left" if title == "figure" else "right")
    for key in new:
        table.add_row(key, *(str(column[key]) for column in (new, old, ratio)))
    Console().print(table)


@click.group()
def main() -> None:
    """Measure this machine; figures are of this run only."""


def _embedder(context: click.Context, option: click.Parameter, given: str) -> str:
    from reflexio_server.index.loading import EMBEDDER_NAMES

    return str(click.Choice(EMBEDDER_NAMES).convert(given, option, context))


@main.command()
@click.option(
    "--locomo",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recall of evidence turns on the LoCoMo file (snap-research/locomo, locomo10.json).",
)
@click.option(
    "--xquad",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Recall of answers' sentences in many languages, on the folder xquad-r of google-research-datasets/lareqa.",
)
@click.option(
    "--language",
    "languages",
    multiple=True,
    metavar="CODE",
    help="With --xquad: a language to ask in; can be repeated. Default: all that are there.",
)
@click.option(
    "--questions", type=click.IntRange(1), help="With --xquad: the most to ask in a language. Default: all 1,190."
)
@click.option(
    "--embedder",
    default="minilm",
    show_default=True,
    metavar="NAME",
    callback=_embedder,
    help="Embedding model, as of `reflexio-server serve`.",
)
@json_option
def recall(
    locomo: Path | None,
    xquad: Path | None,
    languages: tuple[str, ...],
    questions: int | None,
    embedder: str,
    as_json: bool,
) -> None:
    """How many of the turns that answer a question Search finds: on LoCoMo's conversations, or in many languages."""
    from tools.benchmarks import recall as benchmark
    from tools.benchmarks.xquad import Unusable

    if locomo and not xquad:
        if languages or questions:
            raise click.UsageError("--language and --questions are for --xquad.")
        figures, by_category = benchmark.of_locomo(locomo, embedder)
        report("recall", figures if as_json else figures | {"r10 of": by_category}, as_json)
    elif xquad and not locomo:
        try:
            figures = benchmark.of_xquad(xquad, languages, questions, embedder)
        except Unusable as error:
            raise click.ClickException(str(error)) from None
        report("recall", figures, as_json)
    else:
        raise click.UsageError("Give one of --locomo and --xquad.")


@main.command()
@click.option(
    "--rows",
    default=1_000_000,
    show_default=True,
    help="Interactions of the stream whose memory is measured; beside another revision those of each stream, 60,000 "
    "at most.",
)
@beside_option
@new_arguments_option
@json_option
def ingest(rows: int, revision: str | None, new_arguments: str, as_json: bool) -> None:
    """Publishing: streams against the bare writer, unary against an empty handler, the client's own cost.

    Beside another revision: streams and unary calls, about 5 minutes.
    """
    from tools.benchmarks import ingest as benchmark

    arguments = shlex.split(new_arguments)
    if revision:
        arms = beside.arms(revision, arguments, "--no-indexing")
        report_beside("ingest", revision, arms, lambda new, old: benchmark.beside(new, old, rows), as_json)
        return
    figures, more = benchmark.run(rows, arguments)
    report("ingest", figures if as_json else figures | more, as_json)


def _parts(context: click.Context, option: click.Parameter, given: str) -> list[str]:
    from tools.benchmarks.search import PARTS

    choice = click.Choice(list(PARTS))
    return [str(choice.convert(name, option, context)) for name in given.split(",") if name]


@main.command()
@click.option(
    "--total",
    "totals",
    multiple=True,
    type=click.IntRange(20_000),
    help="Interactions of a store; can be repeated. Default: 30000 and 300000; beside another revision the larger one.",
)
@click.option("--only", "parts", default="", metavar="PART,…", callback=_parts, help="Parts to measure. Default: all.")
@click.option(
    "--stores",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the filled stores in this folder, and use those that are there.",
)
@click.option(
    "--seconds",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Beside another revision: how long callers who are many ask at a time; the rest is measured as often as fits.",
)
@beside_option
@new_arguments_option
@json_option
def search(
    totals: tuple[int, ...],
    parts: list[str],
    stores: Path | None,
    seconds: float,
    revision: str | None,
    new_arguments: str,
    as_json: bool,
) -> None:
    """Speed of Search, Get and the index by the size of the store, and what a server takes.

    Beside another revision: searches, reads and starts, some 10 minutes for 300,000 interactions.
    """
    from tools.benchmarks import search as benchmark
    from tools.benchmarks import search_beside

    arguments, totals = shlex.split(new_arguments), totals or benchmark.TOTALS
    if stores:
        stores.mkdir(parents=True, exist_ok=True)
    if revision:
        folder = stores / f"beside of {max(totals)}" if stores else None
        arms = beside.arms(revision, arguments, folder=folder)
        report_beside(
            "search", revision, arms, lambda new, old: search_beside.beside(new, old, max(totals), seconds), as_json
        )
        return
    report("search", benchmark.run(totals, parts or benchmark.USUAL, stores, tuple(arguments)), as_json)


@main.command()
@click.option("--seconds", default=8.0, show_default=True, help="How long each number of callers searches.")
@json_option
def crowd(seconds: float, as_json: bool) -> None:
    """A busy application with default settings: what fails, and searches by 1 to 128 callers of one client."""
    from tools.benchmarks import crowd as benchmark

    figures, more = benchmark.run(seconds)
    report("crowd", figures if as_json else figures | more, as_json)


@main.command()
@json_option
def cluster(as_json: bool) -> None:
    """PostgreSQL beside bare COPY of the same rows and beside SQLite, two servers on it beside one; some 5 minutes.

    Starts a PostgreSQL of its own.
    """
    from tools import postgres_run
    from tools.benchmarks import cluster as benchmark

    if not postgres_run.binaries():
        raise click.ClickException(postgres_run.HOW)
    figures, more = benchmark.run()
    report("cluster", figures if as_json else figures | more, as_json)


@main.command()
@json_option
def languages(as_json: bool) -> None:
    """Requests a second through a client stream, from each language's stubs to one server."""
    from tools.benchmarks import languages as benchmark

    report("languages", benchmark.run(), as_json)


if __name__ == "__main__":
    main()
