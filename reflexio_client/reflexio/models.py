"""What users hold: interactions, answers, accounts. Requests are in requests.py, publishing's side in outcomes.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

Time = datetime | date | str | int | float
"""A moment: a datetime or its ISO 8601 text (a naive one is local time), a date (its first moment, local time), or Unix
seconds."""


class UserActionType(StrEnum):
    """What a person did in a user interface, beside or instead of saying something."""

    NONE = "NONE"
    CLICK = "CLICK"
    SCROLL = "SCROLL"
    TYPE = "TYPE"


@dataclass(slots=True)
class InteractionData:
    """An interaction to publish. It must carry something: content, image, action, description or URL.

    Attributes:
        role: who speaks or acts.
        content: what was said.
        image_encoding: a picture as base64 text, without a "data:" prefix.
        user_action: what was done; a name in any case will do.
        user_action_description: what was done in words.
        interacted_image_url: the address of what was acted on or looked at.
        created_at: when it happened. None: now, or, when the call carries a request_id of your own, when the
            server stores it, so that repeating the call sends the same again.
    """

    role: str = "User"
    content: str = ""
    image_encoding: str | None = None
    user_action: UserActionType | str = UserActionType.NONE
    user_action_description: str = ""
    interacted_image_url: str = ""
    created_at: Time | None = None


@dataclass(slots=True)
class Image:
    """What is known of a picture without looking at its pixels.

    Attributes:
        sha256: hash of the bytes in hexadecimal.
        media_type: "image/png" and the like by its first bytes, else "application/octet-stream".
        width: in pixels; 0 when its header does not say.
        height: in pixels; 0 when its header does not say.
        size_bytes: size of the picture.
        text: what stands in it, where the server reads pictures and has read this one.
    """

    sha256: str
    media_type: str
    width: int
    height: int
    size_bytes: int
    text: str = ""


@dataclass(slots=True)
class Interaction:
    """An interaction as it is stored.

    Attributes:
        interaction_id: a UUIDv7 in text form.
        sequence: position in the account's order of storing, from 1.
        user_id: whose interaction it is.
        request_id: the request that published it; `request_id.split("_")[0]` names the source.
        request_group: the thread it belongs to; empty when its request stands alone.
        source: where it came from.
        agent_version: the version of the agent that took part.
        role: who spoke or acted.
        content: what was said.
        user_action: what was done; an action newer than this client reads as NONE.
        user_action_description: what was done in words.
        interacted_image_url: the address of what was acted on or looked at.
        created_at: when it happened, in whole Unix seconds.
        created_at_us: the same in microseconds.
        stored_at: when the server stored it, in whole Unix seconds.
        stored_at_us: the same in microseconds.
        image: what is known of its picture; None when it has none.
        image_encoding: the picture as base64 text; None unless asked for by `include_images`.
    """

    interaction_id: str
    sequence: int
    user_id: str
    request_id: str
    request_group: str
    source: str
    agent_version: str
    role: str
    content: str
    user_action: UserActionType
    user_action_description: str
    interacted_image_url: str
    created_at: int
    created_at_us: int
    stored_at: int
    stored_at_us: int
    image: Image | None = None
    image_encoding: str | None = None


class SupportsModelDump(Protocol):
    """A pydantic model."""

    def model_dump(self) -> dict[str, Any]:
        """Its fields as a dict."""


Publishable = InteractionData | Interaction | Mapping[str, Any] | SupportsModelDump
"""An interaction to publish: the fields of `InteractionData` as an object, a dict or a pydantic model, or an
`Interaction` that was read."""


@dataclass(slots=True)
class SearchHit:
    """An interaction that fits the query; scores are 0 to 1, and 0 without a query.

    Attributes:
        interaction: the interaction.
        score: how well it fits: the sum of the parts below by their weights, which the contract tells.
        semantic: how near it is in meaning.
        lexical: how well its words fit.
        thread: how well the best other interaction of its thread fits.
        abridged: the search's answer had no room for it, so it was fetched by a call of its own.
        near: how well the best of those beside it in its thread fits.
        answer: how well the one just before it fits, if that is a question.
        role: 1 if the query names its role.
        time: how near it is to the time that the query names.
        asks: 1 if it ends with a question mark, which lowers the score.
    """

    interaction: Interaction
    score: float
    semantic: float
    lexical: float
    thread: float
    abridged: bool = False
    near: float = 0.0
    answer: float = 0.0
    role: float = 0.0
    time: float = 0.0
    asks: float = 0.0


@dataclass(slots=True)
class SearchInteractionsResponse:
    """What was found.

    Attributes:
        success: always True; failures are raised.
        hits: the interactions with their scores, best first.
        msg: what the caller should know about the answer; mostly empty.
        unindexed_count: how many interactions were searched by their words only, their vectors being unmade.
        pending_count: how many of this client's own publishes were still on their way.
    """

    success: bool
    hits: list[SearchHit]
    msg: str = ""
    unindexed_count: int = 0
    pending_count: int = 0

    @property
    def interactions(self) -> list[Interaction]:
        """The interactions of the hits, best first."""
        return [hit.interaction for hit in self.hits]


@dataclass(slots=True)
class GetInteractionsResponse:
    """What was read.

    Attributes:
        success: always True; failures are raised.
        interactions: in the order asked for.
        msg: what the caller should know about the answer; mostly empty.
        next_page_token: for reading on; empty when this is all.
        missing_interaction_ids: of the `interaction_ids` asked for, those that are not there.
        pending_count: how many of this client's own publishes were still on their way.
    """

    success: bool
    interactions: list[Interaction]
    msg: str = ""
    next_page_token: str = ""
    missing_interaction_ids: list[str] = field(default_factory=list)
    pending_count: int = 0


@dataclass(slots=True)
class Request:
    """A published request, without its interactions; times as in `Interaction`."""

    request_id: str
    user_id: str
    request_group: str
    source: str
    agent_version: str
    created_at: int
    created_at_us: int
    stored_at: int
    stored_at_us: int


@dataclass(slots=True)
class RequestWithInteractions:
    """A request and its interactions in the order they happened."""

    request: Request
    interactions: list[Interaction]


@dataclass(slots=True)
class RequestGroup:
    """A thread of a user with its requests, the newest first; the name is empty for one that stands alone."""

    request_group: str
    requests: list[RequestWithInteractions]


@dataclass(slots=True)
class GetRequestsResponse:
    """A user's requests by thread, the one with the newest request first; fields as in `GetInteractionsResponse`."""

    success: bool
    request_groups: list[RequestGroup]
    msg: str = ""
    next_page_token: str = ""
    pending_count: int = 0


@dataclass(slots=True)
class Token:
    """A new API key; its repr hides the secret.

    Attributes:
        api_key: the key, which never expires; the server shows it this once.
        token_type: how it is sent.
        key_id: the key's id, for revoking it. Not secret.
    """

    api_key: str = field(repr=False)
    token_type: str = "bearer"
    key_id: str = ""


@dataclass(slots=True)
class Account:
    """An account: its email, its public tag of 10 characters, and when it was made in Unix seconds."""

    email: str
    tag: str
    created_at: int


@dataclass(slots=True)
class ApiKey:
    """An API key without its secret.

    Attributes:
        key_id: the key's id.
        hint: its first characters, enough to recognise it.
        created_at: when it was made, in Unix seconds.
        revoked_at: when it was revoked, in Unix seconds; None while it is valid.
    """

    key_id: str
    hint: str
    created_at: int
    revoked_at: int | None = None


@dataclass(slots=True)
class Identity:
    """Who is calling: the account and the key behind the call."""

    account: Account
    api_key: ApiKey
