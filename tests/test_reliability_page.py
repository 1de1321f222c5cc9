"""docs/reliability.md tells of every row of scripts/faults, and of tests that are there."""

import random
import re
from pathlib import Path

from tests.server.rpc.test_bad_inputs import CASES
from tools.faults import outage, soak
from tools.faults.__main__ import ROWS
from tools.faults.report import page_of, told_of
from tools.faults.row import Row
from tools.pictures import HOSTILE

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reliability.md"


def test_it_tells_of_every_row_what_it_does() -> None:
    told = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", PAGE.read_text(), re.M))
    assert told == {name: told_of(runs) for name, runs in ROWS.items()}


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


def test_a_report_tells_of_each_row_what_it_was() -> None:
    seed = random.randrange(1000)
    soaked, outaged = Row("soak", {}), Row("outage", {"beside": 12345})
    soaked.at_most("slope", 0.5, 1)
    outaged.exactly("lost", 3, 0)
    text = page_of([(soaked, soak.run), (outaged, outage.run)], seed)
    assert "| `soak` | slope | ≤ 1 | 0.5 | yes |\n" in text
    assert "| `outage` | lost | = 0 | 3 | **no** |\n" in text
    assert re.search(rf"^- `outage` .+\(seed {seed}; beside 12,345\)\. \*\*Failed\.\*\*$", text, re.M)
    assert text.index("`soak`") < text.index("`outage`"), "in the order in which they ran"
    assert text.count("Machine:") == 1
