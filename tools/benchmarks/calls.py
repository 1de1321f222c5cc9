"""The calls of one key, and many callers at once."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import grpc
import numpy as np

from reflexio.v1 import auth_service_pb2, auth_service_pb2_grpc, interaction_pb2, interaction_service_pb2_grpc
from reflexio.v1 import interaction_service_pb2 as pb
from tools.server_process import PASSWORD


class Served(Protocol):
    """A server, and a key of one of its accounts."""

    @property
    def address(self) -> str: ...
    @property
    def key(self) -> str: ...


def log_in(address: str, email: str) -> str:
    """A new key of the account."""
    with grpc.insecure_channel(address) as channel:
        login = auth_service_pb2.LoginRequest(email=email, password=PASSWORD)
        answer = auth_service_pb2_grpc.AuthServiceStub(channel).Login(login, timeout=30)
        return str(answer.api_key)


class Caller:
    """The calls of one key on a channel of its own."""

    def __init__(self, address: str, key: str) -> None:
        self._stub = interaction_service_pb2_grpc.InteractionServiceStub(grpc.insecure_channel(address))
        self._named: dict[str, Any] = {"metadata": (("authorization", f"Bearer {key}"),), "timeout": 120}

    def search(self, query: str, user_id: str | None = None, **fields: Any) -> pb.SearchInteractionsResponse:
        request = pb.SearchInteractionsRequest(query=query, user_id=user_id, **fields)
        return self._stub.SearchInteractions(request, **self._named)

    def newest(self, user_id: str) -> None:
        self._stub.GetInteractions(pb.GetInteractionsRequest(user_id=user_id, page_size=30), **self._named)

    def requests(self, user_id: str, page_size: int) -> pb.GetRequestsResponse:
        return self._stub.GetRequests(pb.GetRequestsRequest(user_id=user_id, page_size=page_size), **self._named)

    def publish(self, user_id: str, texts: Sequence[str]) -> pb.PublishInteractionsResponse:
        request = pb.PublishInteractionsRequest(user_id=user_id, interactions=items_of(texts))
        return self._stub.PublishInteractions(request, **self._named)

    def stream(self, requests: Iterable[pb.PublishInteractionsRequest]) -> None:
        """Raises RuntimeError if one is refused, or not taken."""
        sent = 0

        def messages() -> Iterator[pb.PublishInteractionStreamRequest]:
            nonlocal sent
            for request in requests:
                sent += 1
                yield pb.PublishInteractionStreamRequest(request=request)

        verdict = self._stub.PublishInteractionStream(messages(), **self._named).requests
        if verdict.stored + verdict.duplicate != sent:
            raise RuntimeError(f"of {sent} requests {verdict.stored} are stored and {verdict.rejected} refused")


def items_of(texts: Sequence[str]) -> list[interaction_pb2.InteractionData]:
    return [interaction_pb2.InteractionData(content=text) for text in texts]


def together(
    server: Served, callers: int, questions: Sequence[str], users: Sequence[str], seconds: float
) -> list[float]:
    """How long each search took, in ms, of so many callers who ask again as soon as they have their answer."""
    start = threading.Barrier(callers)

    def call(number: int) -> list[float]:
        caller = Caller(server.address, server.key)
        caller.search("the first call of a connection", "nobody")
        start.wait()
        taken: list[float] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            place = number + callers * len(taken)
            question, user = questions[place % len(questions)], users[place % len(users)]
            taken.append(ms(lambda: caller.search(question, user)))  # noqa: B023
        return taken

    with ThreadPoolExecutor(callers) as pool:
        return [took for taken in pool.map(call, range(callers)) for took in taken]


def ms(call: Callable[[], Any]) -> float:
    """How long the call takes, in milliseconds."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def percentile(taken: Sequence[float], percent: float) -> float:
    return round(float(np.percentile(taken, percent)), 2)
