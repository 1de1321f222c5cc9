"""A server of its own that is given turns, and how many of those that answer a question its Search finds."""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
from rich.console import Console
from rich.progress import Progress, track

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_service_pb2_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from tools.server_process import PASSWORD, ServerProcess, create_account

DEPTH = 20
STALLED_S = 600


@dataclass(frozen=True)
class Question:
    """A question about one user's turns, and the request_ids of those that hold the answer."""

    user_id: str
    text: str
    evidence: frozenset[str]


AnyQuestion = TypeVar("AnyQuestion", bound=Question)
Hits = Sequence[pb.SearchHit]
Search = Callable[[Question, int], Hits]
"""The best so many of the turns of a question's user."""


@contextmanager
def server_with(requests: Sequence[pb.PublishInteractionsRequest], embedder: str) -> Iterator[Search]:
    """Start a server, import the requests through one client stream, and wait until all is indexed."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        email = create_account(data_dir)
        server = ServerProcess(data_dir, None, "--embedder", embedder)
        try:
            with grpc.insecure_channel(server.address) as channel:
                yield _import(channel, email, requests)
        finally:
            server.terminate()


def _import(channel: grpc.Channel, email: str, requests: Sequence[pb.PublishInteractionsRequest]) -> Search:
    login = auth_service_pb2.LoginRequest(email=email, password=PASSWORD)
    key = auth_service_pb2_grpc.AuthServiceStub(channel).Login(login, timeout=30).api_key
    metadata = (("authorization", f"Bearer {key}"),)
    stub = interaction_service_pb2_grpc.InteractionServiceStub(channel)

    messages = (pb.PublishInteractionStreamRequest(request=request) for request in requests)
    verdict = stub.PublishInteractionStream(messages, metadata=metadata, timeout=300)
    if verdict.requests.stored != len(requests):
        raise RuntimeError(f"stored {verdict.requests.stored} of {len(requests)} turns")
    everything = pb.SearchInteractionsRequest(query="anything", top_k=1)
    waiting, since = len(requests), time.monotonic()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("indexing", total=len(requests))
        while left := stub.SearchInteractions(everything, metadata=metadata, timeout=30).unindexed_count:
            if left < waiting:
                waiting, since = left, time.monotonic()
                progress.update(task, completed=len(requests) - left)
            if time.monotonic() > since + STALLED_S:
                raise RuntimeError(f"indexing stood still for {STALLED_S} seconds, with {left} turns left")
            time.sleep(0.5)

    def search(question: Question, count: int) -> Hits:
        request = pb.SearchInteractionsRequest(user_id=question.user_id, query=question.text, top_k=count)
        return stub.SearchInteractions(request, metadata=metadata, timeout=30).hits

    return search


def found(hits: Hits) -> list[str]:
    """The request_ids of the first turns."""
    return [hit.interaction.request_id for hit in hits[:DEPTH]]


def ask(
    questions: Sequence[AnyQuestion], search: Callable[[AnyQuestion], list[str]], title: str
) -> list[tuple[AnyQuestion, list[str]]]:
    return [(question, search(question)) for question in tracked(questions, title)]


def tracked(questions: Sequence[AnyQuestion], title: str) -> Iterable[AnyQuestion]:
    return track(questions, title, transient=True, console=Console(stderr=True))


def measure(answered: Sequence[tuple[Question, list[str]]]) -> dict[str, float]:
    """Mean recall of the evidence among the first 5, 10 and 20, and the mean reciprocal rank of the first of it."""

    def recall(depth: int) -> float:
        shares = [len(question.evidence & set(keys[:depth])) / len(question.evidence) for question, keys in answered]
        return round(sum(shares) / len(shares), 4)

    ranks = [
        next((1 / rank for rank, key in enumerate(keys, 1) if key in question.evidence), 0.0)
        for question, keys in answered
    ]
    return {"r5": recall(5), "r10": recall(10), "r20": recall(20), "mrr": round(sum(ranks) / len(ranks), 4)}
