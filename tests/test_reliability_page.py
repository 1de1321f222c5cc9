"""docs/reliability.md tells of every row of scripts/faults, and of tests that are there."""

import random
import re
from pathlib import Path

import pytest

from tests.server.rpc.test_bad_inputs import CASES
from tools.faults import outage, soak
from tools.faults.__main__ import ROWS
from tools.faults.report import BEGIN, END, reported, write_report
from tools.faults.row import Row
from tools.pictures import HOSTILE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"


def test_it_has_figures_of_every_row_and_of_no_other() -> None:
    assert reported(PAGE) == set(ROWS)


def test_every_test_that_it_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE.read_text())
    assert len(named) >= 20
    for file, function in named:
        assert (ROOT / file).is_file(), file
        assert not function or f"def {function}(" in (ROOT / file).read_text(), f"{file}::{function}"


def test_its_counts_are_those_of_the_tests() -> None:
    text = PAGE.read_text()
    assert f"| {len(CASES)} bad inputs" in text
    assert f"| {len(HOSTILE)} hostile pictures" in text


def test_the_readme_leads_to_it() -> None:
    assert "(docs/reliability.md)" in (ROOT / "README.md").read_text()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    document = tmp_path / "page.md"
    document.write_text(f"before\n{BEGIN}{END}after\n")
    return document


def test_a_report_replaces_a_row_and_keeps_the_others(page: Path) -> None:
    rows = {"soak": soak.run, "outage": outage.run}
    seed = random.randrange(1000)
    row = Row("outage", {"beside": 12345})
    row.exactly("lost", 3, 0)
    write_report(page, row, rows, seed)
    other = Row("soak", {})
    other.at_most("slope", 0.5, 1)
    write_report(page, other, rows, seed)
    text = page.read_text()
    assert reported(page) == set(rows)
    assert "| `outage` | lost | = 0 | 3 | **no** |\n" in text
    assert "| `soak` | slope | ≤ 1 | 0.5 | yes |\n" in text
    assert re.search(rf"^- `outage` .+\(seed {seed}; beside 12,345\)\. \*\*Failed\.\*\*$", text, re.M)
    assert text.index("`soak`") < text.index("`outage`"), "in the order of the rows"
    assert text.startswith("before\n")
    assert text.endswith("after\n")

    better = Row("outage", {})
    better.exactly("lost", 0, 0)
    write_report(page, better, rows, seed)
    text = page.read_text()
    assert "| `outage` | lost | = 0 | 0 | yes |\n" in text
    assert text.count("`outage`") == text.count("`soak`") == 2
    assert "Failed" not in text
    assert text.count("Machine:") == 1
