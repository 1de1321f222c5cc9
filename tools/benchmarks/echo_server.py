"""`reflexio-server serve` whose PublishInteractions does nothing: what the ingest benchmark compares with."""

from typing import Any

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.cli.main import main
from reflexio_server.rpc.services import InteractionService


def _nothing(_self: Any, _request: Any, _context: Any) -> pb.PublishInteractionsResponse:
    return pb.PublishInteractionsResponse()


if __name__ == "__main__":
    setattr(InteractionService, "PublishInteractions", _nothing)  # noqa: B010
    main()
