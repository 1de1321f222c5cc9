"""How many of the turns that answer a question the server's own Search finds, over the wire."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import chromadb
import grpc
import numpy as np
from chromadb.config import Settings as ChromaSettings
from rich.progress import track

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_service_pb2_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.config import Settings
from reflexio_server.index.embedder import load_embedder
from scripts.benchmarks.locomo import CATEGORIES, Evidence, Question, Turn, load
from scripts.server_process import PASSWORD, ServerProcess, create_account

DEPTH = 20


def run(locomo: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Import the conversations through one client stream, wait until all is indexed, ask every question.

    The figures, and r10 by category.
    """
    turns, questions = load(locomo)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        email = create_account(data_dir)
        server = ServerProcess(data_dir)
        try:
            search = _import(server.address, email, turns)
            ours = _ask(questions, search, "asking the server")
        finally:
            server.terminate()
    by_category = {
        name: _measure([found for found in ours if found[0].category == number])["r10"]
        for number, name in CATEGORIES.items()
    }
    plain = _measure(_ask(questions, _plain_chroma(turns), "asking plain Chroma"))
    measured = _measure(ours)
    figures = {
        "questions": len(questions),
        "r5": measured["r5"],
        "r10": measured["r10"],
        "r20": measured["r20"],
        "mrr": measured["mrr"],
        "plain_chroma_r10": plain["r10"],
    }
    return figures, by_category


Search = Callable[[Question], list[Evidence]]
Found = tuple[Question, list[Evidence]]


def _import(address: str, email: str, turns: Sequence[Turn]) -> Search:
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

    keys = {turn.request_id: turn.key for turn in turns}

    def search(question: Question) -> list[Evidence]:
        request = pb.SearchInteractionsRequest(user_id=question.user_id, query=question.text, top_k=DEPTH)
        hits = stub.SearchInteractions(request, metadata=metadata, timeout=30).hits
        return [keys[hit.interaction.request_id] for hit in hits]

    return search


def _plain_chroma(turns: Sequence[Turn]) -> Search:
    """What people build: every turn's vector in one collection, the raw question's nearest within its user."""
    embedder = load_embedder("minilm", Settings().model_dir)
    client = chromadb.EphemeralClient(ChromaSettings(anonymized_telemetry=False))
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


def _ask(questions: Sequence[Question], search: Search, title: str) -> list[Found]:
    return [(question, search(question)) for question in track(questions, title, transient=True)]


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
