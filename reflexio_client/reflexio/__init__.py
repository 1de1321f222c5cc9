"""The Python client of Reflexio: stores interactions between people and AI agents and finds them by meaning.

import reflexio

with reflexio.ReflexioClient(url_endpoint="http://127.0.0.1:8081/") as client:
    client.login("me@example.com", "…")
    client.publish_interaction("ada", [{"content": "Where is my parcel?"}], source="support")
    for hit in client.search_interactions(user_id="ada", query="delivery").hits:
        print(hit.score, hit.interaction.content)
"""
# ruff: noqa: E402

from reflexio.whose import refuse_others as _refuse_others

__distribution__ = "reflexio-grpc"  # on the package index, the name reflexio is somebody else's
_refuse_others()

from reflexio.aio import AsyncReflexioClient
from reflexio.client import ReflexioClient
from reflexio.errors import (
    AlreadyExistsError,
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    QueueFullError,
    ReflexioError,
    RequestErasedError,
    ResourceExhaustedError,
    SpoolError,
    UnavailableError,
    UnimplementedError,
)
from reflexio.models import (
    Account,
    ApiKey,
    GetInteractionsResponse,
    GetRequestsResponse,
    Identity,
    Image,
    Interaction,
    InteractionData,
    Request,
    RequestGroup,
    RequestWithInteractions,
    SearchHit,
    SearchInteractionsResponse,
    Token,
    UserActionType,
)
from reflexio.outcomes import (
    BulkInterruptedError,
    BulkProgress,
    BulkResult,
    ClientStats,
    Counts,
    DeleteResponse,
    Delivery,
    FlushResult,
    PublishRequest,
    PublishUserInteractionResponse,
    Rejection,
)
from reflexio.receipt import AsyncDeleteReceipt, AsyncPublishReceipt, DeleteReceipt, PublishReceipt
from reflexio.requests import GetInteractionsRequest, GetRequestsRequest, SearchInteractionsRequest

__version__ = "0.1.0"

__all__ = [
    "Account",
    "AlreadyExistsError",
    "ApiKey",
    "AsyncDeleteReceipt",
    "AsyncPublishReceipt",
    "AsyncReflexioClient",
    "AuthenticationError",
    "BulkInterruptedError",
    "BulkProgress",
    "BulkResult",
    "ClientStats",
    "ClosedError",
    "ConfigurationError",
    "Counts",
    "DeadlineExceededError",
    "DeleteReceipt",
    "DeleteResponse",
    "Delivery",
    "FlushResult",
    "GetInteractionsRequest",
    "GetInteractionsResponse",
    "GetRequestsRequest",
    "GetRequestsResponse",
    "Identity",
    "Image",
    "Interaction",
    "InteractionData",
    "InternalError",
    "InvalidArgumentError",
    "NotFoundError",
    "PublishReceipt",
    "PublishRequest",
    "PublishUserInteractionResponse",
    "QueueFullError",
    "ReflexioClient",
    "ReflexioError",
    "Rejection",
    "Request",
    "RequestErasedError",
    "RequestGroup",
    "RequestWithInteractions",
    "ResourceExhaustedError",
    "SearchHit",
    "SearchInteractionsRequest",
    "SearchInteractionsResponse",
    "SpoolError",
    "Token",
    "UnavailableError",
    "UnimplementedError",
    "UserActionType",
    "__distribution__",
    "__version__",
]

for _name in __all__:
    if not _name.startswith("__"):
        globals()[_name].__module__ = __name__  # so that reprs, tracebacks and pickles name what users import
del _name
