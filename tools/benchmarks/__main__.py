"""`scripts/bench NAME [--beside REV] [--json]`: a readable table, or one JSON object on the last line."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from tools.benchmarks import beside
from tools.benchmarks.beside import Arm

beside_option = click.option(
    "--beside",
    "revision",
    metavar="REV",
    help="Instead start this tree's server and that of a revision, from a git worktree with its own environment, fill "
    "and ask both over the wire in turn, and print the ratios new / old. The first minute or two make the environment, "
    "where it is another.",
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
    name: str, revision: str, measure: Callable[[Arm, Arm], Sequence[dict[str, float]]], as_json: bool, *arguments: str
) -> None:
    """What this tree's server and the revision's have, both started with these arguments, and the ratios new / old."""
    with beside.arms(revision, *arguments) as arms:
        new, old = measure(*arms)
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


@main.command()
@click.option("--locomo", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@json_option
def recall(locomo: Path, as_json: bool) -> None:
    """Recall of evidence turns on the LoCoMo file (snap-research/locomo, locomo10.json)."""
    from tools.benchmarks import recall as benchmark

    figures, by_category = benchmark.run(locomo)
    report("recall", figures if as_json else figures | {"r10 of": by_category}, as_json)


@main.command()
@click.option(
    "--rows",
    default=1_000_000,
    show_default=True,
    help="Interactions of the stream whose memory is measured; beside another revision those of each stream, 60,000 "
    "at most.",
)
@beside_option
@json_option
def ingest(rows: int, revision: str | None, as_json: bool) -> None:
    """Publishing: streams against the bare writer, unary against an empty handler, the client's own cost.

    Beside another revision: streams and unary calls, about 5 minutes.
    """
    from tools.benchmarks import ingest as benchmark

    if revision:
        report_beside("ingest", revision, lambda new, old: benchmark.beside(new, old, rows), as_json, "--no-indexing")
        return
    figures, more = benchmark.run(rows)
    report("ingest", figures if as_json else figures | more, as_json)


@main.command()
@click.option(
    "--rows",
    default=30_000,
    show_default=True,
    type=click.IntRange(1_000),
    help="Interactions of the store, beside another revision.",
)
@beside_option
@json_option
def search(rows: int, revision: str | None, as_json: bool) -> None:
    """Speed of Search, Get and the index, at 30,000 and 300,000 interactions.

    Beside another revision: searches and reads of one store, about 10 minutes for 30,000 interactions.
    """
    from tools.benchmarks import search as benchmark

    if revision:
        report_beside("search", revision, lambda new, old: benchmark.beside(new, old, rows), as_json)
        return
    report("search", benchmark.run(), as_json)


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
def languages(as_json: bool) -> None:
    """Requests a second through a client stream, from each language's stubs to one server."""
    from tools.benchmarks import languages as benchmark

    report("languages", benchmark.run(), as_json)


if __name__ == "__main__":
    main()
