"""How many of the turns that answer a question the server's own Search finds, over the wire."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reflexio_server.config import Settings
from reflexio_server.index.loading import load_embedder
from tools.benchmarks import locomo, xquad
from tools.benchmarks.asking import DEPTH, Question, ask, found, measure, server_with, tracked


def of_locomo(path: Path, embedder: str) -> tuple[dict[str, Any], dict[str, float]]:
    """Import the conversations, ask every question.

    The figures, and r10 by category. The arms `lexical` and `dense` are the server's own parts of the score alone:
    every turn of the question's user comes as a hit with its parts, and is put in the order of one of them.
    """
    turns, questions = locomo.load(path)
    with server_with([turn.request() for turn in turns], embedder) as search:
        ours = ask(questions, lambda question: found(search(question, DEPTH)), "asking the server")
        everything = [search(question, 1000) for question in tracked(questions, "asking for every turn")]
    lexical, dense = (
        measure([(question, found(sorted(hits, key=by))) for question, hits in zip(questions, everything, strict=True)])
        for by in (lambda hit: -hit.lexical, lambda hit: -hit.semantic)
    )
    by_category = {
        name: measure([answered for answered in ours if answered[0].category == number])["r10"]
        for number, name in locomo.CATEGORIES.items()
    }
    plain = measure(ask(questions, _plain_chroma(turns, embedder), "asking plain Chroma"))
    controls = {"plain_chroma_r10": plain["r10"], "lexical_r10": lexical["r10"], "dense_r10": dense["r10"]}
    return {"questions": len(questions)} | measure(ours) | controls, by_category


def of_xquad(folder: Path, languages: Sequence[str], most: int, embedder: str) -> dict[str, Any]:
    """Import the sentences of each language as a user's turns, ask its questions within that user.

    Without `languages` all that the folder has. At most so many questions of each, the same in all.

    Raises:
        xquad.Unusable: the folder does not have the files.
    """
    parts = {language: xquad.load(folder, language, most) for language in languages or xquad.languages(folder)}
    requests = [sentence.request() for sentences, _ in parts.values() for sentence in sentences]
    with server_with(requests, embedder) as search:
        r10 = {
            language: measure(ask(questions, lambda question: found(search(question, 10)), f"asking in {language}"))[
                "r10"
            ]
            for language, (_, questions) in parts.items()
        }
    counts = {language: len(questions) for language, (_, questions) in parts.items()}
    return {"questions": counts, "r10": r10, "embedder": embedder}


def _plain_chroma(turns: Sequence[locomo.Turn], name: str) -> Callable[[Question], list[str]]:
    """What people build: every turn's vector in one collection, the raw question's nearest within its user."""
    import chromadb  # after reflexio_server, which has it report nothing

    embedder = load_embedder(name, Settings().model_dir)
    client = chromadb.EphemeralClient()
    collection = client.create_collection(
        "plain", embedding_function=None, configuration={"hnsw": {"space": "cosine", "ef_search": 400}}
    )
    for start in range(0, len(turns), 100):
        part = turns[start : start + 100]
        collection.add(
            ids=[str(start + offset) for offset in range(len(part))],
            embeddings=np.array([embedder.embed(turn.text)[0] for turn in part]),
            metadatas=[{"user": turn.user_id} for turn in part],
        )

    def search(question: Question) -> list[str]:
        vector = embedder.embed_query(question.text)
        nearest = collection.query(query_embeddings=vector[None], n_results=DEPTH, where={"user": question.user_id})
        return [turns[int(number)].request_id for number in nearest["ids"][0]]

    return search
