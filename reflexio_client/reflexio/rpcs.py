"""The RPCs with their types, for blocking and awaited channels alike (the generated stubs know no aio types)."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from reflexio.v1 import auth_service_pb2 as auth
from reflexio.v1 import interaction_service_pb2 as service

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Q, A]):
    """An RPC: its path, the classes of its request and of its answer or each part of it, and if it needs a key."""

    path: str
    request: type[Q]
    answer: type[A]
    authorized: bool = True


_AUTH = f"/{auth.DESCRIPTOR.services_by_name['AuthService'].full_name}"
_INTERACTION = f"/{service.DESCRIPTOR.services_by_name['InteractionService'].full_name}"

LOGIN = Rpc(f"{_AUTH}/Login", auth.LoginRequest, auth.LoginResponse, authorized=False)
WHO_AM_I = Rpc(f"{_AUTH}/WhoAmI", auth.WhoAmIRequest, auth.WhoAmIResponse)
LIST_API_KEYS = Rpc(f"{_AUTH}/ListApiKeys", auth.ListApiKeysRequest, auth.ListApiKeysResponse)
REVOKE_API_KEY = Rpc(f"{_AUTH}/RevokeApiKey", auth.RevokeApiKeyRequest, auth.RevokeApiKeyResponse)

PUBLISH = Rpc(
    f"{_INTERACTION}/PublishInteractions", service.PublishInteractionsRequest, service.PublishInteractionsResponse
)
PUBLISH_STREAM = Rpc(
    f"{_INTERACTION}/PublishInteractionStream",
    service.PublishInteractionStreamRequest,
    service.PublishInteractionStreamResponse,
)
SEARCH = Rpc(
    f"{_INTERACTION}/SearchInteractions", service.SearchInteractionsRequest, service.SearchInteractionsResponse
)
GET = Rpc(f"{_INTERACTION}/GetInteractions", service.GetInteractionsRequest, service.GetInteractionsResponse)
GET_REQUESTS = Rpc(f"{_INTERACTION}/GetRequests", service.GetRequestsRequest, service.GetRequestsResponse)
GET_IMAGE = Rpc(f"{_INTERACTION}/GetImage", service.GetImageRequest, service.GetImageResponse)
DELETE_INTERACTION = Rpc(
    f"{_INTERACTION}/DeleteInteraction", service.DeleteInteractionRequest, service.DeleteInteractionResponse
)
DELETE_REQUEST = Rpc(f"{_INTERACTION}/DeleteRequest", service.DeleteRequestRequest, service.DeleteRequestResponse)
DELETE_REQUEST_GROUP = Rpc(
    f"{_INTERACTION}/DeleteRequestGroup", service.DeleteRequestGroupRequest, service.DeleteRequestGroupResponse
)
DELETE_USER = Rpc(f"{_INTERACTION}/DeleteUser", service.DeleteUserRequest, service.DeleteUserResponse)
