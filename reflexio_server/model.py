"""What every floor speaks of. Times are int microseconds since 1970 UTC throughout.

ref: the number of a row inside the database; never told to a caller.
sequence: an interaction's position in the order in which its account's were stored: 1, 2, 3 …
stamp: the number of a vector, higher for each one that is written; what an index has applied is all up to a stamp.
place: where a request or interaction stands in the order of time, as (created_at, tie-breaker).
scope: which rows a read means: an account's or a user's, and what passes the filter.
part: of a score, 0 to 1: semantic, lexical, thread; of an erase, what is erased step by step.
thread: the requests of a user that have the same request_group.
owner: whose a text is in the full text: an account and a user, as two words.
embedder: what makes vectors; "model" in columns and options is its number, or its files.
delete, erase, settle: a caller deletes; the server erases the rows at once, then settles: no file or index has them.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import IntEnum
from typing import NamedTuple

_HASH_VERSION = 1


class UserAction(IntEnum):
    """What a person did; the numbers are those of the contract's enum."""

    NONE = 1
    CLICK = 2
    SCROLL = 3
    TYPE = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture with its bytes, as it is published."""

    data: bytes
    sha256: bytes
    media_type: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of a stored picture without its bytes; `text`: what stands in it, empty if it was not read."""

    sha256: bytes
    media_type: str
    width: int
    height: int
    size_bytes: int
    text: str = ""


class NewInteraction(NamedTuple):  # made in half the time of a frozen dataclass, for each row of a bulk upload
    """An interaction to store; `created_at` None means the time of storing."""

    role: str
    content: str
    user_action: UserAction
    user_action_description: str
    interacted_image_url: str
    image: Picture | None
    created_at: int | None


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A valid request to store, all or nothing; `body_hash` tells a replay from a reuse of its id."""

    request_id: str
    user_id: str
    request_group: str
    source: str
    agent_version: str
    interactions: tuple[NewInteraction, ...]
    body_hash: bytes


def body_hash(
    user_id: str, request_group: str, source: str, agent_version: str, interactions: Sequence[NewInteraction]
) -> bytes:
    """SHA-256 of what a request says, the same in every language: protobuf bytes are not canonical.

    A version byte, the number of fields and the length of each in 8 bytes, then the fields in fixed order: texts in
    UTF-8, pictures by their SHA-256, the action as a byte, created_at as 8 bytes of microseconds, or as nothing when
    it was not sent. Not in it: request_id, wait_until.
    """
    fields = [user_id.encode(), request_group.encode(), source.encode(), agent_version.encode()]
    for item in interactions:
        fields += (
            item.role.encode(),
            item.content.encode(),
            item.user_action_description.encode(),
            item.interacted_image_url.encode(),
            bytes([item.user_action]),
            item.image.sha256 if item.image else b"",
            b"" if item.created_at is None else item.created_at.to_bytes(8, "big", signed=True),
        )
    lengths = struct.pack(f">{len(fields)}Q", *map(len, fields))
    return hashlib.sha256(bytes([_HASH_VERSION]) + len(fields).to_bytes(8, "big") + lengths + b"".join(fields)).digest()


@dataclass(frozen=True, slots=True)
class Interaction:
    """A stored interaction; `ref` is its number inside the database."""

    ref: int
    interaction_id: str
    sequence: int
    user_id: str
    request_id: str
    request_group: str
    source: str
    agent_version: str
    role: str
    content: str
    user_action: UserAction
    user_action_description: str
    interacted_image_url: str
    created_at: int
    stored_at: int
    image: ImageInfo | None


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """The outcome of storing a request: its interactions' ids and refs in the order they were sent."""

    request_id: str
    interaction_ids: tuple[str, ...]
    refs: tuple[int, ...]
    replayed: bool


@dataclass(frozen=True, slots=True)
class ReusedRequestId:
    """The outcome for a request whose id was stored before with another body: nothing was written."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ErasedRequestId:
    """The outcome for a request whose id belongs to an erased one, whatever its body: nothing was written."""

    request_id: str


Outcome = StoredRequest | ReusedRequestId | ErasedRequestId


@dataclass(frozen=True, slots=True)
class ErasedCounts:
    """What was erased: requests of which nothing is left, interactions, and pictures that nobody has any more."""

    requests: int = 0
    interactions: int = 0
    images: int = 0


@dataclass(frozen=True, slots=True)
class Filter:
    """Which interactions are meant: those that pass everything that is set (empty, None and 0 are not set)."""

    request_id: str = ""
    request_group: str = ""
    sources: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    user_actions: tuple[UserAction, ...] = ()
    agent_version: str = ""
    start_time: int | None = None
    end_time: int | None = None
    most_recent_k: int = 0


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search in one account: `user_id` None means all of it; an empty query means the newest first.

    `zone`: where the caller is, for dates that the query names.
    """

    user_id: str | None
    query: str
    top_k: int
    min_score: float
    filter: Filter
    zone: tzinfo = UTC


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids an interaction is known by."""

    interaction_id: str
    user_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Hit:
    """An interaction's ref with its score and the parts of it, all 0 to 1, see `core.ranking`."""

    ref: int
    score: float = 0.0
    semantic: float = 0.0
    lexical: float = 0.0
    near: float = 0.0
    thread: float = 0.0
    answer: float = 0.0
    role: float = 0.0
    time: float = 0.0
    asks: float = 0.0


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where the next page starts: after this interaction, among those stored up to `max_sequence`."""

    created_at: int
    interaction_id: str
    max_sequence: int


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A page of a listing in one account; `interaction_ids`, when given, stands instead of the filter."""

    user_id: str | None
    filter: Filter
    interaction_ids: tuple[str, ...]
    page_size: int
    oldest_first: bool
    include_images: bool
    cursor: Cursor | None


@dataclass(frozen=True, slots=True)
class PageItem:
    """An interaction on a page; `image_data` None: not asked for, or `image_omitted` as it does not fit."""

    interaction: Interaction
    image_data: bytes | None = None
    image_omitted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A page; `next_cursor` None means it is the last."""

    items: list[PageItem]
    next_cursor: Cursor | None
    missing_ids: list[str] = field(default_factory=list)


Place = tuple[int, int]
"""A request's place in the order of requests: (created_at, sequence)."""


@dataclass(frozen=True, slots=True)
class Request:
    """A stored request; `ref` is its number inside the database.

    `created_at` is when its first interaction happened, `sequence` that of its last one in the order of storing.
    """

    ref: int
    request_id: str
    user_id: str
    request_group: str
    source: str
    agent_version: str
    created_at: int
    sequence: int
    stored_at: int

    @property
    def place(self) -> Place:
        return self.created_at, self.sequence


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """Which requests are meant: those that pass everything that is set, the times by one of their interactions."""

    request_id: str = ""
    request_group: str = ""
    start_time: int | None = None
    end_time: int | None = None


@dataclass(frozen=True, slots=True)
class RequestCursor:
    """Where the next page starts, among the requests stored up to `max_sequence`.

    It is after `request` in the thread whose first request, in the order asked for, is `head`; or, when `interaction`
    (created_at, interaction_id) is set, inside of `request`, after that interaction.
    """

    head: Place
    request: Place
    interaction: tuple[int, str] | None
    max_sequence: int


@dataclass(frozen=True, slots=True)
class RequestPageQuery:
    """A page of a user's requests by thread."""

    user_id: str
    filter: RequestFilter
    page_size: int
    oldest_first: bool
    include_images: bool
    cursor: RequestCursor | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account: everything stored belongs to exactly one. Nobody can log in to a disabled one, nor use its keys."""

    account_id: int
    email: str
    tag: str
    created_at: int
    disabled_at: int | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key without its secret."""

    key_id: str
    hint: str
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: an account and the key it used."""

    account: Account
    key: ApiKey
