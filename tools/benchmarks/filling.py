"""Fills a data directory with made-up chat turns and ready-made vectors, through the server's own storage."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reflexio_server.clock import now_us
from reflexio_server.core.query_words import STOP_WORDS
from reflexio_server.model import NewInteraction, NewRequest, StoredRequest, UserAction
from reflexio_server.storage import accounts, embedders, vectors, waiting
from reflexio_server.storage.database import Database, own
from reflexio_server.storage.publishing import store_requests

SIZES = {100: 10, 1_000: 5, 10_000: 1}
"""How many users of each size are searched; the rest belongs to users of about 1,000."""
LARGE_USER, LARGE_STORE = 100_000, 200_000  # a user of such a size is in stores of such a size, too
TURNS = 10  # of a request
REQUESTS_AT_ONCE = 100
_START = 1_700_000_000_000_000
_LATENT = 48  # dimensions that the vectors really vary in; texts' embeddings have about as many


class Progress:
    """Says on standard error how much is done, a line for each tenth."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._tenths = what, total, -1

    def reached(self, done: int) -> None:
        if done * 10 // self._total > self._tenths:
            self._tenths = done * 10 // self._total
            print(f"{self._what}: {self._tenths * 10} %", file=sys.stderr, flush=True)


class Language:
    """Made-up turns: words with the frequencies of a language (Zipf), two fifths of them English stop words.

    The words hang on the vocabulary alone, so that a question has words of the store, whatever its seed.
    """

    def __init__(self, seed: int, vocabulary: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "ol")]
        words = np.random.default_rng(vocabulary)
        self._words = np.array(["".join(words.choice(syllables, 3)) for _ in range(8_000)])
        self._shares = 1 / np.arange(1, len(self._words) + 1)
        self._shares /= self._shares.sum()
        self._stop_words = np.array(sorted(STOP_WORDS))

    def words(self, count: int) -> NDArray[np.str_]:
        """Words that are no stop words, the common ones often."""
        return self.random.choice(self._words, count, p=self._shares)

    def turns(self, count: int) -> list[str]:
        """Texts of 8 to 24 words."""
        lengths = self.random.integers(8, 25, count)
        total = int(lengths.sum())
        common = self.random.choice(self._stop_words, total)
        mixed = np.where(self.random.random(total) < 0.4, common, self.words(total))
        return [" ".join(part) for part in np.split(mixed, np.cumsum(lengths)[:-1])]

    def question(self) -> str:
        """A query of three words that tell something."""
        first, *others = self.words(3)
        return f"what did we say about {first} and the {' '.join(others)}?"


def sizes_of(total: int) -> dict[int, int]:
    """How many users of each size are searched in a store of so many interactions."""
    return SIZES | ({LARGE_USER: 1} if total >= LARGE_STORE else {})


def users_of(size: int, sizes: Mapping[int, int] = SIZES) -> list[str]:
    """The searched users that have so many interactions."""
    return [f"user of {size}, {number}" for number in range(sizes[size])]


def owners_of(total: int, language: Language, sizes: Mapping[int, int] = SIZES) -> list[str]:
    """Whose each request of a store is: every user's spread over all the time."""
    owners = [name for size in sizes for name in users_of(size, sizes) for _ in range(size // TURNS)]
    rest = total // TURNS - len(owners)
    owners += [f"other {number % max(1, total // 1_500)}" for number in range(rest)]
    return [owners[place] for place in language.random.permutation(len(owners))]


def fill(
    data_dir: Path,
    email: str,
    total: int,
    model_id: str,
    dimensions: int,
    language: Language,
    sizes: Mapping[int, int] = SIZES,
    url: str | None = None,
) -> None:
    """Store `total` interactions of an account that is there, every user's spread over all the time; with a URL in the
    database there.

    `--beside` calls the fill of another revision too: what comes before `sizes`, and the rows it makes, stay.
    """
    owners = owners_of(total, language, sizes)
    basis = language.random.normal(size=(_LATENT, dimensions)).astype(np.float32)
    with own(data_dir):
        database = Database(data_dir, owner=True, url=url)
        try:
            with database.write() as conn:
                model = embedders.register(conn, model_id, dimensions)
                embedders.choose(conn, model)
                account_id = next(found.account_id for found, _ in accounts.list_accounts(conn) if found.email == email)
            progress = Progress(f"storing {total} interactions", len(owners))
            for start in range(0, len(owners), REQUESTS_AT_ONCE):
                progress.reached(start)
                batch = list(_requests(owners[start : start + REQUESTS_AT_ONCE], start, language))
                with database.write() as conn:
                    outcomes = store_requests(conn, [(account_id, made) for made in batch], now_us())
                    refs = [ref for outcome in outcomes if isinstance(outcome, StoredRequest) for ref in outcome.refs]
                    rows = waiting.among(conn, refs)
                    latent = language.random.normal(size=(len(rows), _LATENT)).astype(np.float32)
                    matrix = latent @ basis
                    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
                    vectors.store(conn, model, list(zip(rows, matrix[:, np.newaxis], strict=True)))
        finally:
            database.close()


def _requests(owners: Sequence[str], first: int, language: Language) -> Iterator[NewRequest]:
    texts = language.turns(len(owners) * TURNS)
    for number, owner in enumerate(owners, first):
        mine = texts[(number - first) * TURNS : (number - first + 1) * TURNS]
        turns = tuple(
            NewInteraction("User", text, UserAction.NONE, "", "", None, _START + number * 1_000_000 + place)
            for place, text in enumerate(mine)
        )
        digest = hashlib.sha256(str(number).encode()).digest()
        yield NewRequest(f"filled_{number}", owner, f"thread {number // 2}", "filled", "", turns, digest)
