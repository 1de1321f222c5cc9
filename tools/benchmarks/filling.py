"""Fills a data directory with made-up chat turns and ready-made vectors, through the server's own storage."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from reflexio.v1 import interaction_pb2
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.clock import now_us
from reflexio_server.core.query_words import STOP_WORDS
from reflexio_server.model import NewInteraction, NewRequest, StoredRequest, UserAction
from reflexio_server.storage import accounts, embedders, vectors, waiting
from reflexio_server.storage.database import Database, own
from reflexio_server.storage.publishing import store_requests

SIZES = {100: 10, 1_000: 5, 10_000: 1}
"""How many users of each size are searched; the rest belongs to users of about 1,000."""
TURNS = 10  # of a request
REQUESTS_AT_ONCE = 100
_START = 1_700_000_000_000_000
_LATENT = 48  # dimensions that the vectors really vary in; texts' embeddings have about as many


class Language:
    """Made-up turns: words with the frequencies of a language (Zipf), two fifths of them English stop words.

    The words are always the same, so that a question has words of the store, whatever its seed.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "ol")]
        words = np.random.default_rng(0)
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


def users_of(size: int, sizes: Mapping[int, int] = SIZES) -> list[str]:
    """The searched users that have so many interactions."""
    return [f"user of {size}, {number}" for number in range(sizes[size])]


def owners_of(total: int, language: Language, sizes: Mapping[int, int] = SIZES) -> list[str]:
    """Whose each request of a store is: every user's spread over all the time."""
    owners = [name for size in sizes for name in users_of(size, sizes) for _ in range(size // TURNS)]
    rest = total // TURNS - len(owners)
    owners += [f"other {number % max(1, total // 1_500)}" for number in range(rest)]
    return [owners[place] for place in language.random.permutation(len(owners))]


def messages(
    total: int, language: Language, sizes: Mapping[int, int] = SIZES
) -> Iterator[pb.PublishInteractionsRequest]:
    """The requests of a store that is filled over the wire."""
    owners = owners_of(total, language, sizes)
    for number, owner in enumerate(owners):
        items = [interaction_pb2.InteractionData(role="User", content=text) for text in language.turns(TURNS)]
        yield pb.PublishInteractionsRequest(
            user_id=owner,
            request_group=f"thread {number // 2}",
            source="filled",
            request_id=f"filled_{number}",
            interactions=items,
        )


def fill(data_dir: Path, email: str, total: int, model_id: str, dimensions: int, language: Language) -> None:
    """Store `total` interactions of an account that is there, every user's spread over all the time."""
    owners = owners_of(total, language)
    basis = language.random.normal(size=(_LATENT, dimensions)).astype(np.float32)
    with own(data_dir):
        database = Database(data_dir, owner=True)
        try:
            with database.write() as conn:
                model = embedders.register(conn, model_id, dimensions)
                embedders.choose(conn, model)
                account_id = next(found.account_id for found, _ in accounts.list_accounts(conn) if found.email == email)
            parts = range(0, len(owners), REQUESTS_AT_ONCE)
            title = f"storing {total} interactions"
            for start in track(parts, title, transient=True, console=Console(stderr=True)):
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
