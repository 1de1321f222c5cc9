"""Real servers for the tests: one in this process, one in a process of its own that can be killed."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from click.testing import CliRunner
from google.rpc import error_details_pb2, status_pb2

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc
from reflexio_server.app import App
from reflexio_server.cli.main import main
from reflexio_server.config import Settings
from reflexio_server.storage import embedders
from tests import canaries, stores
from tools import server_process
from tools.server_process import PASSWORD

__all__ = ["PASSWORD", "Caller", "Failure", "LocalServer", "ServerProcess", "create_account", "failure_of", "log_in"]


class Caller:
    """The raw stubs with an account's key."""

    def __init__(self, address: str, email: str, api_key: str) -> None:
        self.address, self.email, self.api_key = address, email, api_key
        self.channel = grpc.insecure_channel(address)
        self.metadata = (("authorization", f"Bearer {api_key}"),)
        self.interactions = pb_grpc.InteractionServiceStub(self.channel)
        self.auth = auth_grpc.AuthServiceStub(self.channel)

    def publish(self, user_id: str, *contents: str, **fields: Any) -> pb.PublishInteractionsResponse:
        items = [noun.InteractionData(content=content) for content in contents]
        request = pb.PublishInteractionsRequest(user_id=user_id, interactions=items, **fields)
        return self.interactions.PublishInteractions(request, metadata=self.metadata, timeout=30)

    def get(self, **fields: Any) -> pb.GetInteractionsResponse:
        request = pb.GetInteractionsRequest(**fields)
        return self.interactions.GetInteractions(request, metadata=self.metadata, timeout=30)

    def get_requests(self, **fields: Any) -> pb.GetRequestsResponse:
        request = pb.GetRequestsRequest(**fields)
        return self.interactions.GetRequests(request, metadata=self.metadata, timeout=30)

    def search(self, **fields: Any) -> pb.SearchInteractionsResponse:
        request = pb.SearchInteractionsRequest(**fields)
        return self.interactions.SearchInteractions(request, metadata=self.metadata, timeout=30)

    def stream(self, requests: Sequence[pb.PublishInteractionsRequest]) -> pb.PublishInteractionStreamResponse:
        messages = (pb.PublishInteractionStreamRequest(request=request) for request in requests)
        return self.interactions.PublishInteractionStream(messages, metadata=self.metadata, timeout=60)

    def delete_interaction(self, interaction_id: str, **fields: Any) -> pb.ErasedCounts:
        request = pb.DeleteInteractionRequest(interaction_id=interaction_id, **fields)
        return self.interactions.DeleteInteraction(request, metadata=self.metadata, timeout=60).erased

    def delete_request(self, request_id: str, **fields: Any) -> pb.ErasedCounts:
        request = pb.DeleteRequestRequest(request_id=request_id, **fields)
        return self.interactions.DeleteRequest(request, metadata=self.metadata, timeout=60).erased

    def delete_request_group(self, user_id: str, request_group: str) -> pb.ErasedCounts:
        request = pb.DeleteRequestGroupRequest(user_id=user_id, request_group=request_group)
        return self.interactions.DeleteRequestGroup(request, metadata=self.metadata, timeout=60).erased

    def delete_user(self, user_id: str) -> pb.ErasedCounts:
        request = pb.DeleteUserRequest(user_id=user_id)
        return self.interactions.DeleteUser(request, metadata=self.metadata, timeout=60).erased


def log_in(address: str, email: str, password: str = PASSWORD) -> Caller:
    with grpc.insecure_channel(address) as channel:
        request = auth_pb.LoginRequest(email=email, password=password)
        response = auth_grpc.AuthServiceStub(channel).Login(request, timeout=30, wait_for_ready=True)
    return Caller(address, email, response.api_key)


class ServerProcess(server_process.ServerProcess):
    """A server in a process of its own, whose log is looked through for secrets."""

    def __init__(self, data_dir: Path, *arguments: Any, **named: Any) -> None:
        named["env"] = stores.environment(data_dir, named.get("env"))
        super().__init__(data_dir, *arguments, **named)
        canaries.watch("the log of a server process", self.lines)


def create_account(data_dir: Path, *arguments: Any, **named: Any) -> str:
    """Make an account by the command line, in a process of its own."""
    with stores.in_environment(data_dir):
        return server_process.create_account(data_dir, *arguments, **named)


class LocalServer:
    """A server in this process."""

    def __init__(self, data_dir: Path, model_dir: Path, **settings: Any) -> None:
        values: dict[str, Any] = {"port": 0, "grace_seconds": 2, "freshness_seconds": 10}
        values |= {"login_tries_per_address": 1_000_000}  # all tests come from one address
        values |= settings
        self.data_dir = data_dir
        self.app = App(Settings(data_dir=data_dir, model_dir=model_dir, **values))
        self.app.start()
        self.address = self.app.address

    def live_model(self) -> int:
        """The number of the model whose vectors searches compare."""
        with self.app.database.read() as conn:
            return embedders.live(conn)

    def new_caller(self) -> Caller:
        """A caller with an account of its own, made by the command line in this process: a new one takes a second."""
        email = f"{secrets.token_hex(4)}@example.com"
        command = ["accounts", "create", email, "--data-dir", str(self.data_dir)]
        made = CliRunner().invoke(main, command, input=PASSWORD, catch_exceptions=False)
        assert made.exit_code == 0, made.output
        return log_in(self.address, email)

    def stop(self) -> None:
        self.app.stop()


@dataclass
class Failure:
    """A failed call with its details in their own types."""

    code: grpc.StatusCode
    text: str
    info: Any
    violations: list[tuple[str, str]]
    retry_seconds: float | None
    trailer_bytes: int


def failure_of(error: grpc.RpcError) -> Failure:
    trailers = {item.key: item.value for item in error.trailing_metadata() or ()}
    raw = trailers.get("grpc-status-details-bin", b"")
    status = status_pb2.Status.FromString(raw)
    info, violations, retry = None, [], None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
        elif detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            violations = [(violation.field, violation.description) for violation in bad.field_violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry = delay.seconds + delay.nanos / 1e9
    return Failure(error.code(), error.details() or "", info, violations, retry, len(raw))
