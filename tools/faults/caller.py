"""The raw stubs of a run's server, with an account's key."""

from typing import Any

import grpc

from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc

TIMEOUT = 60.0  # seconds; a loaded machine takes long


class Caller:
    """Calls over a connection of its own; grpc.RpcError when one fails.

    Its own methods wait for a server that is away; `interactions` and `metadata` are for calls that do not.
    """

    def __init__(self, address: str, api_key: str) -> None:
        options = (
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
            # Not min_reconnect_backoff: that is also how long an attempt may take, and a busy machine needs longer.
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
        )
        self.channel = grpc.insecure_channel(address, options=options)
        self.interactions = pb_grpc.InteractionServiceStub(self.channel)
        self.auth = auth_grpc.AuthServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {api_key}"),)
        self.options: dict[str, Any] = {"metadata": self.metadata, "timeout": TIMEOUT, "wait_for_ready": True}

    def publish(self, user_id: str, *items: noun.InteractionData, **fields: Any) -> pb.PublishInteractionsResponse:
        request = pb.PublishInteractionsRequest(user_id=user_id, interactions=items, **fields)
        return self.interactions.PublishInteractions(request, **self.options)

    def get(self, **fields: Any) -> pb.GetInteractionsResponse:
        return self.interactions.GetInteractions(pb.GetInteractionsRequest(**fields), **self.options)

    def everything(self, **fields: Any) -> list[noun.Interaction]:
        """All pages of a listing."""
        page = self.get(page_size=1000, **fields)
        found = list(page.interactions)
        while page.next_page_token:
            page = self.get(page_size=1000, page_token=page.next_page_token, **fields)
            found += page.interactions
        return found

    def search(self, **fields: Any) -> pb.SearchInteractionsResponse:
        return self.interactions.SearchInteractions(pb.SearchInteractionsRequest(**fields), **self.options)

    def image(self, interaction_id: str) -> tuple[noun.Image, bytes]:
        """A picture, as GetImage streams it."""
        parts = list(self.interactions.GetImage(pb.GetImageRequest(interaction_id=interaction_id), **self.options))
        return parts[0].image, b"".join(part.data for part in parts)
