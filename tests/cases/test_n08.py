"""N8: what the READMEs of the other languages show runs twice, and after each other, in one account."""

import re

import pytest

from tests.polyglot.conftest import built
from tests.polyglot.test_packages import (
    OTHERS,
    QUICKSTARTS,
    everyones_account,
    test_what_the_readme_shows_runs_twice_and_after_the_others,
)
from tools.toolchains import ROOT

__all__ = ["built", "everyones_account", "test_what_the_readme_shows_runs_twice_and_after_the_others"]
pytestmark = pytest.mark.timeout(1200)  # the first test of a language builds it


@pytest.mark.parametrize("language", OTHERS)
def test_no_id_is_the_same_in_each_run_and_a_repeat_is_the_same_message(language: str) -> None:
    for name in (QUICKSTARTS[language], f"gen/{language}/README.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        ids = re.findall(r"(?:request_?id)\b[^\n]*?[:(][ \t]*([^\n]+)", text, re.IGNORECASE)
        assert any("run" in one for one in ids)
        assert not [one for one in ids if re.search(r"parcel|clicks", one) and "run" not in one]
        assert "can be repeated safely" not in text
        assert text.count("again") >= 2


def test_typescripts_page_says_how_to_run_it_on_node_20() -> None:
    text = (ROOT / "gen/typescript/README.md").read_text(encoding="utf-8")
    assert "npx tsc" in text
    assert re.search(r"^REFLEXIO_ADDRESS=.* node build/quickstart\.js$", text, re.MULTILINE)
    assert ".mts" not in text
