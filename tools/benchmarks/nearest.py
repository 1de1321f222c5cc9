"""The ten nearest of a user of 1,000, vector given: ours, and one Chroma collection with a filter by user."""

from typing import Any

import numpy as np

from reflexio_server.config import Settings
from reflexio_server.core import ranking
from reflexio_server.core.vector_cache import VectorCache
from reflexio_server.index.chroma import ChromaIndex
from reflexio_server.index.chroma_folder import CHROMA_FOLDER, newest_folder
from reflexio_server.storage import collections, embedders, standing, vectors
from tools.benchmarks.calls import ms
from tools.benchmarks.filling import Language, users_of
from tools.benchmarks.stores import Store

TIMES = 100


def rank(store: Store, language: Language) -> dict[str, Any]:
    """No server has the store any more."""
    store.end_server()
    cache = VectorCache(Settings().vector_cache_mb * 1024 * 1024)
    ours: list[float] = []
    theirs: list[float] = []
    folder = newest_folder(store.data_dir / CHROMA_FOLDER)
    assert folder
    index = ChromaIndex(folder)
    with store.database.read() as conn:
        state = embedders.state(conn)
        assert state
        (live,) = collections.live_collections(conn, state.live)
        found = [standing.of_user(conn, live.account_id, name) for name in users_of(1_000)]
        standings = [one for one in found if one]
        for number in range(-len(standings), TIMES):
            of = standings[number % len(standings)]
            user = of.user_ref or 0
            mine = vectors.of_user(conn, user, state.live)
            vector = mine.matrix[language.random.integers(len(mine))]

            def rank(of: standing.Standing = of, vector: vectors.Matrix = vector) -> None:
                held = cache.get(conn, of, len(mine))  # noqa: B023
                assert held
                semantic = ranking.semantic_parts(held.texts, held.cosines(vector))
                ranking.rank(held.texts, semantic, np.zeros(len(semantic)), 10)

            def where(user: int = user, vector: vectors.Matrix = vector) -> None:
                index.query(live.name, vector, 10, user)

            ours_ms, theirs_ms = ms(rank), ms(where)
            if number >= 0:  # the first of each user warms up both
                ours.append(ours_ms)
                theirs.append(theirs_ms)
    index.close()
    rank_ms, where_ms = float(np.percentile(ours, 50)), float(np.percentile(theirs, 50))
    return {
        "rank_ms": round(rank_ms, 3),
        "chroma_where_ms": round(where_ms, 2),
        "vs_chroma_where": round(where_ms / rank_ms, 1),
    }
