"""Which interactions have which of a query's words, however many interactions have them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from reflexio_server.core import ranking
from reflexio_server.storage import full_text, standing
from reflexio_server.storage.standing import Standing

Refs = NDArray[np.int64]
Parts = NDArray[np.float64]


@dataclass(eq=False)
class _Common:
    """A word of which only the newest rows are listed: what is older than `oldest` may have it, unless it is `absent`.

    `share`: of the lexical part.
    """

    word: str
    oldest: int
    share: float
    absent: Refs = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class WordMatches:
    """The matches of one query's words among the texts of a user or account.

    Of each word at most so many rows are listed, the newest: that bounds the work of a search. What is not listed may
    have the word, and is taken to have it until it is looked up; so that the few that come first need to be.

    Attributes:
        refs: what is known to have any of the words, in rising order.
        known: the lexical part of each that is known.
        counts: how many texts have each of the words; where not all are listed, by how many of the newest have it.
        is_all: whether all rows are listed.
    """

    def __init__(self, conn: Connection, of: Standing, words: Mapping[str, str], most: int) -> None:
        self._matches = full_text.matches(conn, of.account_id, of.user_ref, words, most)
        self._of, self._words = of, list(words)
        self.is_all = all(match.is_all for match in self._matches)
        self.counts = {
            word: len(match.refs) if match.is_all else int(most / standing.share_since(conn, int(match.refs[0])))
            for word, match in zip(words, self._matches, strict=True)
        }

    def with_all(self, conn: Connection, most: int) -> Refs:
        """The newest that have all the words, newest first."""
        if self.is_all:
            whole: Refs = self.refs[self.known.round(ranking.DECIMALS) == 1]
            return whole[::-1][:most]
        return full_text.with_all(conn, self._of.account_id, self._of.user_ref, self._words, most)[::-1]

    def weigh(self, texts: int) -> None:
        """Weigh the words by how many of all the texts have them."""
        self.refs, self.known, shares = ranking.lexical_parts(
            [match.refs for match in self._matches], list(self.counts.values()), texts
        )
        self._checked = np.zeros(0, dtype=np.int64)
        self._common = [
            _Common(word, int(match.refs[0]), share)
            for word, match, share in zip(self._words, self._matches, shares, strict=True)
            if not match.is_all
        ]
        self._listed_since = max((common.oldest for common in self._common), default=0)

    def parts(self, refs: Refs) -> Parts:
        """The lexical part of each of these interactions, in rising order; the most it may be where it is not known."""
        parts = np.zeros(len(refs))
        at = np.searchsorted(refs, self.refs)
        there = at < len(refs)
        there[there] = refs[at[there]] == self.refs[there]
        parts[at[there]] = self.known[there]
        for common in self._common:
            parts[(refs < common.oldest) & ~np.isin(refs, common.absent)] += common.share
        return parts.round(ranking.DECIMALS)

    def know(self, refs: Refs) -> bool:
        """Whether all is known of these interactions."""
        return bool(np.all((refs >= self._listed_since) | np.isin(refs, self._checked)))

    def look_up(self, conn: Connection, refs: Refs) -> None:
        """Find out what is not known of these interactions."""
        unknown = np.setdiff1d(refs, self._checked)
        self._checked = np.append(self._checked, unknown)
        for common in self._common:
            older = unknown[unknown < common.oldest]
            if len(older):
                having = full_text.having(conn, common.word, older)
                common.absent = np.append(common.absent, np.setdiff1d(older, having))
