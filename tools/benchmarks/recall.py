"""How many of the turns that answer a question the server's own Search finds, over the wire."""

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.progress import track

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_service_pb2_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.config import Settings
from reflexio_server.index.loading import load_embedder
from tools.benchmarks.locomo import CATEGORIES, Evidence, Question, Turn, evidence_of, load
from tools.server_process import PASSWORD, ServerProcess, create_account

DEPTH = 20


def run(locomo: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Import the conversations through one client stream, wait until all is indexed, ask every question.

    The figures, and r10 by category. The arms `lexical` and `dense` are the server's own parts of the score alone:
    every turn of the question's user comes as a hit with its parts, and is put in the order of one of them.
    """
    turns, questions = load(locomo)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        email = create_account(data_dir)
        server = ServerProcess(data_dir)
        try:
            search = _import(server.address, email, turns)
            ours = _ask(questions, lambda question: _keys(search(question, DEPTH)), "asking the server")
            everything = [search(question, 1000) for question in _track(questions, "asking for every turn")]
        finally:
            server.terminate()
    lexical, dense = (
        _measure(
            [(question, _keys(sorted(hits, key=by))) for question, hits in zip(questions, everything, strict=True)]
        )
        for by in (lambda hit: -hit.lexical, lambda hit: -hit.semantic)
    )
    by_category = {
        name: _measure([found for found in ours if found[0].category == number])["r10"]
        for number, name in CATEGORIES.items()
    }
    plain = _measure(_ask(questions, _plain_chroma(turns), "asking plain Chroma"))
    controls = {"plain_chroma_r10": plain["r10"], "lexical_r10": lexical["r10"], "dense_r10": dense["r10"]}
    return {"questions": len(questions)} | _measure(ours) | controls, by_category


Hits = Sequence[pb.SearchHit]
Found = tuple[Question, list[Evidence]]


def _import(address: str, email: str, turns: Sequence[Turn]) -> Callable[[Question, int], Hits]:
    channel = grpc.insecure_channel(address)
    login = auth_service_pb2.LoginRequest(email=email, password=PASSWORD)
    key = auth_service_pb2_grpc.AuthServiceStub(channel).Login(login, timeout=30).api_key
    metadata = (("authorization", f"Bearer {key}"),)
    stub = interaction_service_pb2_grpc.InteractionServiceStub(channel)

    messages = (pb.PublishInteractionStreamRequest(request=turn.request()) for turn in turns)
    verdict = stub.PublishInteractionStream(messages, metadata=metadata, timeout=300)
    if verdict.requests.stored != len(turns):
        raise RuntimeError(f"stored {verdict.requests.stored} of {len(turns)} turns")
    everything = pb.SearchInteractionsRequest(query="anything", top_k=1)
    deadline = time.monotonic() + 600
    while stub.SearchInteractions(everything, metadata=metadata, timeout=30).unindexed_count:
        if time.monotonic() > deadline:
            raise RuntimeError("indexing did not finish in 10 minutes")
        time.sleep(0.5)

    def search(question: Question, count: int) -> Hits:
        request = pb.SearchInteractionsRequest(user_id=question.user_id, query=question.text, top_k=count)
        return stub.SearchInteractions(request, metadata=metadata, timeout=30).hits

    return search


def _keys(hits: Hits) -> list[Evidence]:
    return [evidence_of(hit.interaction.request_id) for hit in hits[:DEPTH]]


def _plain_chroma(turns: Sequence[Turn]) -> Callable[[Question], list[Evidence]]:
    """What people build: every turn's vector in one collection, the raw question's nearest within its user."""
    import chromadb  # after reflexio_server, which has it report nothing

    embedder = load_embedder("minilm", Settings().model_dir)
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

    def search(question: Question) -> list[Evidence]:
        vector = embedder.embed_query(question.text)
        found = collection.query(query_embeddings=vector[None], n_results=DEPTH, where={"user": question.user_id})
        return [turns[int(number)].key for number in found["ids"][0]]

    return search


def _ask(questions: Sequence[Question], search: Callable[[Question], list[Evidence]], title: str) -> list[Found]:
    return [(question, search(question)) for question in _track(questions, title)]


def _track(questions: Sequence[Question], title: str) -> Iterable[Question]:
    return track(questions, title, transient=True, console=Console(stderr=True))


def _measure(found: Sequence[Found]) -> dict[str, float]:
    """Mean recall of the evidence among the first 5, 10 and 20, and the mean reciprocal rank of the first of it."""

    def recall(depth: int) -> float:
        shares = [len(question.evidence & set(keys[:depth])) / len(question.evidence) for question, keys in found]
        return round(sum(shares) / len(shares), 4)

    ranks = [
        next((1 / rank for rank, key in enumerate(keys, 1) if key in question.evidence), 0.0)
        for question, keys in found
    ]
    return {"r5": recall(5), "r10": recall(10), "r20": recall(20), "mrr": round(sum(ranks) / len(ranks), 4)}
