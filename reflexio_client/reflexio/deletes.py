"""Deletes without their I/O: what is sent, and what comes back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from reflexio import checks, rpcs
from reflexio.ids import uuid7
from reflexio.outcomes import DeleteResponse
from reflexio.rpcs import Rpc
from reflexio.v1 import interaction_service_pb2 as pb

RPCS: Mapping[str, Rpc[Any, Any]] = {
    "delete_interaction": rpcs.DELETE_INTERACTION,
    "delete_request": rpcs.DELETE_REQUEST,
    "delete_request_group": rpcs.DELETE_REQUEST_GROUP,
    "delete_user": rpcs.DELETE_USER,
}
"""The RPC of each of the clients' methods, by whose name a spool file knows it."""


@dataclass(frozen=True, slots=True)
class Delete:
    """A delete to be sent: the method that takes it, whose it is (empty: not said), and the message."""

    method: str
    user_id: str
    message: Message

    def new_id(self) -> str:
        """An id under which it can wait in a spool."""
        return f"{self.method}_{uuid7()}"


def interaction(user_id: str | None, interaction_id: str) -> Delete:
    message = pb.DeleteInteractionRequest(interaction_id=_needed("interaction_id", interaction_id))
    return _of_user("delete_interaction", user_id, message)


def request(request_id: str, user_id: str | None) -> Delete:
    return _of_user("delete_request", user_id, pb.DeleteRequestRequest(request_id=_needed("request_id", request_id)))


def request_group(request_group: str, user_id: str) -> Delete:
    message = pb.DeleteRequestGroupRequest(
        user_id=_needed("user_id", user_id), request_group=_needed("request_group", request_group)
    )
    return Delete("delete_request_group", user_id, message)


def user(user_id: str) -> Delete:
    return Delete("delete_user", user_id, pb.DeleteUserRequest(user_id=_needed("user_id", user_id)))


def response(answer: Any) -> DeleteResponse:
    """What the user gets for the answer of any of the Delete RPCs."""
    erased: pb.ErasedCounts = answer.erased
    return DeleteResponse(
        success=True,
        message=f"deleted: {erased.requests} requests, {erased.interactions} interactions, {erased.images} images",
        requests=erased.requests,
        interactions=erased.interactions,
        images=erased.images,
    )


def _of_user(
    method: str, user_id: str | None, message: pb.DeleteInteractionRequest | pb.DeleteRequestRequest
) -> Delete:
    if user_id is not None:
        message.user_id = _needed("user_id", user_id)
    return Delete(method, user_id or "", message)


def _needed(field: str, value: str) -> str:
    return checks.text(field, value, required=True)
