"""`scripts/bench NAME [--json]`: a readable table, or one JSON object on the last line."""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table


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


@click.group()
def main() -> None:
    """Measure this machine; figures are of this run only."""


@main.command()
@click.option("--locomo", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def recall(locomo: Path, as_json: bool) -> None:
    """Recall of evidence turns on the LoCoMo file (snap-research/locomo, locomo10.json)."""
    from scripts.benchmarks import recall as benchmark

    figures, by_category = benchmark.run(locomo)
    report("recall", figures if as_json else figures | {"r10 of": by_category}, as_json)


@main.command()
@click.option(
    "--rows", default=1_000_000, show_default=True, help="Interactions of the stream whose memory is measured."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def ingest(rows: int, as_json: bool) -> None:
    """Publishing: streams against the bare writer, unary against an empty handler, the client's own cost."""
    from scripts.benchmarks import ingest as benchmark

    figures, more = benchmark.run(rows)
    report("ingest", figures if as_json else figures | more, as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def search(as_json: bool) -> None:
    """Speed of Search, Get and the index, at 30,000 and 300,000 interactions."""
    from scripts.benchmarks import search as benchmark

    report("search", benchmark.run(), as_json)


@main.command()
@click.option("--seconds", default=8.0, show_default=True, help="How long each number of callers searches.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def crowd(seconds: float, as_json: bool) -> None:
    """A busy application with default settings: what fails, and searches by 1 to 128 callers of one client."""
    from scripts.benchmarks import crowd as benchmark

    figures, more = benchmark.run(seconds)
    report("crowd", figures if as_json else figures | more, as_json)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def languages(as_json: bool) -> None:
    """Requests a second through a client stream, from each language's stubs to one server."""
    from scripts.benchmarks import languages as benchmark

    report("languages", benchmark.run(), as_json)


if __name__ == "__main__":
    main()
