"""Reading interactions and requests in the order of time, in pages that fit into a response."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import Connection

from reflexio_server.errors import NotFound
from reflexio_server.model import (
    Cursor,
    ImageInfo,
    Interaction,
    Page,
    PageItem,
    PageQuery,
    Place,
    Request,
    RequestCursor,
    RequestPageQuery,
)
from reflexio_server.storage import interactions, requests
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import Scope
from reflexio_server.storage.requests import RequestScope

PAGE_BYTES = 3 * 1024 * 1024 - 66 * 1024
"""No response exceeds 3 MiB; the rest is room for a token and for 1,000 ids of 64 bytes that are missing."""

_OVERHEAD_BYTES = 400  # ids, times, numbers and tags of an interaction, or of a request, on the wire are fewer
_REQUESTS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class RequestPageItem:
    """A request with its interactions in the order they happened; `continues`: the next page has more of them."""

    request: Request
    interactions: list[PageItem]
    continues: bool = False


@dataclass(frozen=True, slots=True)
class RequestPage:
    """A page, requests of a thread next to each other; `next_cursor` None means it is the last."""

    items: list[RequestPageItem]
    next_cursor: RequestCursor | None


def size_of(interaction: Interaction) -> int:
    """An upper bound of an interaction's size on the wire without its picture's data, in bytes."""
    texts = (
        interaction.user_id,
        interaction.request_id,
        interaction.request_group,
        interaction.source,
        interaction.agent_version,
        interaction.role,
        interaction.content,
        interaction.user_action_description,
        interaction.interacted_image_url,
        interaction.image.text if interaction.image else "",
    )
    return _OVERHEAD_BYTES + len("".join(texts).encode())


def _size_of_head(request: Request) -> int:
    """An upper bound of a request's size on the wire without its interactions, with its group's name twice."""
    group = request.request_group
    texts = (request.user_id, request.request_id, group, group, request.source, request.agent_version)
    return _OVERHEAD_BYTES + len("".join(texts).encode())


@dataclass(frozen=True, eq=False)
class Lister:
    """Lists one account's interactions, requests and pictures at a time."""

    database: Database

    def page(self, account_id: int, query: PageQuery) -> Page:
        """A page of interactions. It ends early where it would grow over PAGE_BYTES.

        A picture that is asked for and does not fit onto a page of its own is left out and marked.
        """
        with self.database.read() as conn:
            user_ref = None
            if query.user_id is not None:
                user_ref = interactions.user_ref(conn, account_id, query.user_id)
                if user_ref is None:
                    return Page([], None, list(query.interaction_ids))
            newest = interactions.last_sequence(conn, account_id)
            max_sequence = query.cursor.max_sequence if query.cursor else newest
            scope = Scope(account_id, user_ref, query.filter, query.interaction_ids, max_sequence)

            missing: list[str] = []
            if query.interaction_ids and query.cursor is None:
                existing = interactions.existing_ids(conn, scope)
                missing = [given for given in query.interaction_ids if given not in existing]

            items: list[PageItem] = []
            used = 0
            rows = interactions.listing(
                conn, scope, oldest_first=query.oldest_first, after=query.cursor, limit=query.page_size + 1
            )
            for row in rows:
                item, size = _measured(row, query.include_images, PAGE_BYTES)
                if len(items) == query.page_size or used + size > PAGE_BYTES:
                    last = items[-1].interaction
                    return Page(items, Cursor(last.created_at, last.interaction_id, max_sequence), missing)
                items.append(_with_picture(conn, account_id, item, query.include_images))
                used += size
            return Page(items, None, missing)

    def requests(self, account_id: int, query: RequestPageQuery) -> RequestPage:
        """A page of a user's requests by thread. It ends early where it would grow over PAGE_BYTES.

        A request that does not fit onto a page of its own goes on on the next. Pictures are as in `page`.
        """
        with self.database.read() as conn:
            user_ref = interactions.user_ref(conn, account_id, query.user_id)
            if user_ref is None:
                return RequestPage([], None)
            newest = interactions.last_sequence(conn, account_id)
            max_sequence = query.cursor.max_sequence if query.cursor else newest
            scope = RequestScope(account_id, user_ref, query.filter, max_sequence, query.oldest_first)

            items: list[RequestPageItem] = []
            cursor: RequestCursor | None = None
            used = 0
            for request, head, rows in _requests(conn, account_id, scope, query):
                if len(items) == query.page_size:
                    return RequestPage(items, cursor)
                size = _size_of_head(request)
                found: list[PageItem] = []
                for row in rows:
                    item, more = _measured(row, query.include_images, PAGE_BYTES - _size_of_head(request))
                    if used + size + more > PAGE_BYTES:
                        if not items:
                            last = found[-1].interaction
                            inside = (last.created_at, last.interaction_id)
                            cursor = RequestCursor(head, request.place, inside, max_sequence)
                            items.append(RequestPageItem(request, found, continues=True))
                        return RequestPage(items, cursor)
                    found.append(_with_picture(conn, account_id, item, query.include_images))
                    size += more
                items.append(RequestPageItem(request, found))
                cursor = RequestCursor(head, request.place, None, max_sequence)
                used += size
            return RequestPage(items, None)

    def image(self, account_id: int, interaction_id: str) -> tuple[ImageInfo, bytes]:
        """An interaction's picture with its bytes; NotFound when there is no such interaction or picture."""
        with self.database.read() as conn:
            found = interactions.image_of(conn, account_id, interaction_id)
        if found is None:
            raise NotFound("image")
        return found


def _requests(
    conn: Connection, account_id: int, scope: RequestScope, query: RequestPageQuery
) -> Iterator[tuple[Request, Place, Iterator[Interaction]]]:
    """Requests with the places of their threads and what is to be read of their interactions; read on demand.

    The interactions must be read before the next request is.
    """
    start = query.cursor
    listed = requests.by_thread(conn, scope, start, query.page_size + 1)
    while batch := list(islice(listed, _REQUESTS_AT_ONCE)):
        found = requests.interactions_of(conn, [request.ref for request, _ in batch])
        for request, _ in batch[:1]:
            if start and start.interaction and request.place == start.request:
                found[request.ref] = [place for place in found[request.ref] if place[:2] > start.interaction]
        rows = interactions.by_refs(conn, account_id, [ref for request, _ in batch for *_, ref in found[request.ref]])
        for request, head in batch:
            yield request, head, islice(rows, len(found[request.ref]))


def _measured(row: Interaction, include_images: bool, room: int) -> tuple[PageItem, int]:
    """An interaction and its size on a page; a picture that does not fit into the room is to be left out."""
    size = size_of(row)
    if not include_images or row.image is None:
        return PageItem(row), size
    if size + row.image.size_bytes > room:
        return PageItem(row, image_omitted=True), size
    return PageItem(row), size + row.image.size_bytes


def _with_picture(conn: Connection, account_id: int, item: PageItem, include_images: bool) -> PageItem:
    image = item.interaction.image
    if not include_images or image is None or item.image_omitted:
        return item
    return replace(item, image_data=interactions.image_data(conn, account_id, image.sha256))
