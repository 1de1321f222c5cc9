"""What users ask with: request objects, and the same fields as keywords."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from reflexio.models import Time, UserActionType


class FilterFields(TypedDict, total=False):
    """Which interactions are meant: those that pass everything that is set."""

    user_id: str | None
    request_id: str | None
    request_group: str | None
    sources: Sequence[str]
    roles: Sequence[str]
    user_actions: Sequence[UserActionType | str]
    agent_version: str | None
    start_time: Time | None
    end_time: Time | None
    most_recent_k: int | None
    include_images: bool


class SearchFields(FilterFields, total=False):
    """The keywords of `search_interactions`: the fields of `SearchInteractionsRequest`."""

    query: str
    top_k: int
    min_score: float | None
    time_zone: str | None


class GetFields(FilterFields, total=False):
    """The keywords of `get_interactions`: the fields of `GetInteractionsRequest`."""

    interaction_ids: Sequence[str]
    top_k: int | None
    order: Literal["newest", "oldest"]
    page_token: str


class GetRequestsFields(TypedDict, total=False):
    """The keywords of `get_requests`: the fields of `GetRequestsRequest`."""

    user_id: str
    request_id: str | None
    request_group: str | None
    start_time: Time | None
    end_time: Time | None
    top_k: int | None
    order: Literal["newest", "oldest"]
    page_token: str
    include_images: bool


@dataclass(slots=True, kw_only=True)
class InteractionFilter:
    """Which interactions are meant: those that pass everything that is set.

    Attributes:
        user_id: whose; None: the whole account's.
        request_id: only those of this request.
        request_group: only those of this thread.
        sources: only those from one of these sources.
        roles: only those of one of these roles, in any case.
        user_actions: only those with one of these actions; names in any case.
        agent_version: only those of this version of the agent.
        start_time: only those that happened at or after this.
        end_time: only those that happened before this.
        most_recent_k: of those that pass everything else, only the newest this many.
        include_images: fetch the pictures too, into `image_encoding`.
    """

    user_id: str | None = None
    request_id: str | None = None
    request_group: str | None = None
    sources: Sequence[str] = ()
    roles: Sequence[str] = ()
    user_actions: Sequence[UserActionType | str] = ()
    agent_version: str | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    most_recent_k: int | None = None
    include_images: bool = False


@dataclass(slots=True, kw_only=True)
class SearchInteractionsRequest(InteractionFilter):
    """What to search for, among the interactions that pass the filter.

    Attributes:
        query: any words; empty: the newest first.
        top_k: how many hits at most, 1 to 1,000.
        min_score: only hits with at least this score, 0 to 1; needs a query.
        time_zone: where "yesterday" and other dates of the query are: "Europe/Berlin" or "+02:00"; None: UTC.
    """

    query: str = ""
    top_k: int = 10
    min_score: float | None = None
    time_zone: str | None = None


@dataclass(slots=True, kw_only=True)
class GetInteractionsRequest(InteractionFilter):
    """What to read in the order of time, of the interactions that pass the filter.

    Attributes:
        interaction_ids: exactly these, at most 1,000; excludes the filter.
        top_k: how many at most; any number, read in pages. None: 30, or everything where it is iterated over.
            The interaction_ids asked for are all read.
        order: "newest" or "oldest" first.
        page_token: `next_page_token` of an earlier answer, to read on from there.
    """

    interaction_ids: Sequence[str] = ()
    top_k: int | None = None
    order: Literal["newest", "oldest"] = "newest"
    page_token: str = ""


@dataclass(slots=True, kw_only=True)
class GetRequestsRequest:
    """Which of a user's requests to read.

    Attributes:
        user_id: whose; required.
        request_id: only this one.
        request_group: only those of this thread.
        start_time: only those with an interaction at or after this and, where both are set, before end_time.
        end_time: only those with an interaction before this.
        top_k: how many requests at most; any number, read in pages. None: 30, or everything where it is iterated
            over.
        order: "newest" or "oldest" first, threads and the requests of each; with "oldest" a conversation reads forward.
        page_token: `next_page_token` of an earlier answer, to read on from there.
        include_images: fetch the pictures too, into `image_encoding`.
    """

    user_id: str = ""
    request_id: str | None = None
    request_group: str | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    top_k: int | None = None
    order: Literal["newest", "oldest"] = "newest"
    page_token: str = ""
    include_images: bool = False
