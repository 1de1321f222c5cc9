import os
from collections.abc import Callable
from functools import cache

import pytest

from tools.toolchains import LANGUAGES, Language, ToolchainMissing

Built = Callable[[str], Language]


@pytest.fixture(scope="session")
def built() -> Built:
    """A language with its package and programs built; without its toolchain the test is skipped, or fails in CI."""

    @cache
    def build(name: str) -> Language | str:
        try:
            LANGUAGES[name].build()
        except ToolchainMissing as missing:
            return str(missing)
        return LANGUAGES[name]

    def use(name: str) -> Language:
        language = build(name)
        if isinstance(language, Language):
            return language
        if "REFLEXIO_TEST_ALL" in os.environ:
            pytest.fail(f"{name} is required here: {language}")
        pytest.skip(f"{name}: {language}")

    return use
