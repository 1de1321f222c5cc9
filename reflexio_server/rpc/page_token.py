"""Page tokens: where to go on, bound to the query they came from. Opaque to callers, not secret."""

import base64
import hashlib
import struct
import uuid
from typing import Any

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.errors import InvalidInput, Violation
from reflexio_server.model import Cursor, RequestCursor

_VERSION = 2
_HEAD = ">B8s"  # version, fingerprint
_INTERACTIONS = struct.Struct(f"{_HEAD}qq16s")  # created_at, max_sequence, interaction_id
_REQUESTS = struct.Struct(f"{_HEAD}qqqqq")  # head, request, max_sequence
_INSIDE = struct.Struct(f"{_HEAD}qqqqqq16s")  # the same, and the interaction's created_at and id


def fingerprint(account_tag: str, request: pb.GetInteractionsRequest | pb.GetRequestsRequest) -> bytes:
    """What must stay the same from page to page, in 8 bytes.

    The account is in it by its tag, which its keys show: a number could be found out by trying.
    """
    same: Any = type(request)()
    same.CopyFrom(request)
    for field in ("page_size", "page_token", "include_images"):
        same.ClearField(field)
    same.order = same.order or pb.ORDER_NEWEST_FIRST
    name = same.DESCRIPTOR.full_name.encode()
    text = name + account_tag.encode() + same.SerializeToString(deterministic=True)
    return hashlib.sha256(text).digest()[:8]


def encode(cursor: Cursor, print_of_query: bytes) -> str:
    interaction = uuid.UUID(cursor.interaction_id).bytes
    return _text(_INTERACTIONS.pack(_VERSION, print_of_query, cursor.created_at, cursor.max_sequence, interaction))


def decode(token: str, print_of_query: bytes) -> Cursor:
    """The cursor in a token. Raises InvalidInput when it is none, or belongs to another query."""
    created_at, max_sequence, interaction = _fields(token, print_of_query, _INTERACTIONS)
    return Cursor(created_at, str(uuid.UUID(bytes=interaction)), max_sequence)


def encode_request(cursor: RequestCursor, print_of_query: bytes) -> str:
    places = (_VERSION, print_of_query, *cursor.head, *cursor.request, cursor.max_sequence)
    if cursor.interaction is None:
        return _text(_REQUESTS.pack(*places))
    created_at, interaction_id = cursor.interaction
    return _text(_INSIDE.pack(*places, created_at, uuid.UUID(interaction_id).bytes))


def decode_request(token: str, print_of_query: bytes) -> RequestCursor:
    """The cursor in a token of requests. Raises InvalidInput when it is none, or belongs to another query."""
    first, second, third, fourth, max_sequence, *inside = _fields(token, print_of_query, _REQUESTS, _INSIDE)
    interaction = (inside[0], str(uuid.UUID(bytes=inside[1]))) if inside else None
    return RequestCursor((first, second), (third, fourth), interaction, max_sequence)


def encode_key(key_id: str) -> str:
    return _text(uuid.UUID(key_id).bytes)


def decode_key(token: str) -> str:
    """The key id in a token. Raises InvalidInput when it is none."""
    try:
        return str(uuid.UUID(bytes=_unpacked(token)))
    except ValueError:
        raise _no_token() from None


def _fields(token: str, print_of_query: bytes, *layouts: struct.Struct) -> tuple[Any, ...]:
    """What a token holds after its head, by the layout of its size."""
    try:
        packed = _unpacked(token)
    except ValueError:
        raise _no_token() from None
    for layout in layouts:
        if len(packed) == layout.size:
            version, found, *fields = layout.unpack(packed)
            if version < _VERSION:
                raise _invalid("is of an earlier version of the server: begin with the first page again")
            if version != _VERSION or found != print_of_query:
                raise _invalid("belongs to another query: keep everything but page_size and include_images as it was")
            return tuple(fields)
    raise _no_token()


def _text(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _unpacked(token: str) -> bytes:
    return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)


def _no_token() -> InvalidInput:
    return _invalid("is not a page token: send next_page_token of the page before, unchanged")


def _invalid(description: str) -> InvalidInput:
    return InvalidInput([Violation("page_token", description)])
