"""Roles by their words, as numbers: what a query names a speaker by."""

from functools import lru_cache

from reflexio_server import words

WORDS = 3
"""How many words of a role count, the first ones."""


@lru_cache(10_000)
def numbers(role: str) -> tuple[int, ...]:
    """The number of each of the role's first words, 0 for those that it does not have."""
    found = [number(word) for word in words.whole(role)[:WORDS]]
    return (*found, *[0] * (WORDS - len(found)))


def number(word: str) -> int:
    """The same as long as the process lives, and not 0; of 31 bits, so that two words with one are hardly met."""
    return hash(word) & 0x7FFFFFFF or 1
