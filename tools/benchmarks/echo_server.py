"""`reflexio-server serve` whose PublishInteractions does nothing: what the ingest benchmark compares with."""

from typing import Any

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli import main as command
from reflexio_server.rpc.services import InteractionService


def _nothing(_self: Any, _request: Any, _context: Any) -> pb.PublishInteractionsResponse:
    return pb.PublishInteractionsResponse()


def main() -> None:
    setattr(InteractionService, "PublishInteractions", _nothing)  # noqa: B010
    command.main()


if __name__ == "__main__":
    main()
