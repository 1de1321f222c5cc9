"""Page tokens: where to go on, bound to the query they came from. Opaque to callers, not secret."""

import base64
import hashlib
import struct
import uuid

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.errors import InvalidInput, Violation
from reflexio_server.model import Cursor

_VERSION = 1
_LAYOUT = struct.Struct(">B8sqq16s")  # version, fingerprint, created_at, max_sequence, interaction_id


def fingerprint(account_id: int, request: pb.GetInteractionsRequest) -> bytes:
    """What must stay the same from page to page, in 8 bytes."""
    same = pb.GetInteractionsRequest()
    same.CopyFrom(request)
    for field in ("page_size", "page_token", "include_images"):
        same.ClearField(field)
    same.order = same.order or pb.ORDER_NEWEST_FIRST
    text = account_id.to_bytes(8, "big") + same.SerializeToString(deterministic=True)
    return hashlib.sha256(text).digest()[:8]


def encode(cursor: Cursor, print_of_query: bytes) -> str:
    """The token of the page after the cursor."""
    interaction = uuid.UUID(cursor.interaction_id).bytes
    packed = _LAYOUT.pack(_VERSION, print_of_query, cursor.created_at, cursor.max_sequence, interaction)
    return _text(packed)


def decode(token: str, print_of_query: bytes) -> Cursor:
    """The cursor in a token. Raises InvalidInput when it is none, or belongs to another query."""
    try:
        packed = _unpacked(token)
        version, found, created_at, max_sequence, interaction = _LAYOUT.unpack(packed)
    except (ValueError, struct.error):
        raise _invalid("is not a page token: send next_page_token of the page before, unchanged") from None
    if version != _VERSION or found != print_of_query:
        raise _invalid("belongs to another query: keep everything but page_size and include_images as it was")
    return Cursor(created_at, str(uuid.UUID(bytes=interaction)), max_sequence)


def encode_key(key_id: str) -> str:
    """The token of the page of keys after this one."""
    return _text(uuid.UUID(key_id).bytes)


def decode_key(token: str) -> str:
    """The key id in a token. Raises InvalidInput when it is none."""
    try:
        packed = _unpacked(token)
        return str(uuid.UUID(bytes=packed))
    except ValueError:
        raise _invalid("is not a page token: send next_page_token of the page before, unchanged") from None


def _text(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _unpacked(token: str) -> bytes:
    return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)


def _invalid(description: str) -> InvalidInput:
    return InvalidInput([Violation("page_token", description)])
