"""Reading interactions in the order of time, in pages that fit into a response."""

from dataclasses import replace

from reflexio_server.errors import NotFound
from reflexio_server.model import Cursor, ImageInfo, Interaction, Page, PageItem, PageQuery
from reflexio_server.storage import interactions
from reflexio_server.storage.database import Database
from reflexio_server.storage.interactions import Scope

PAGE_BYTES = 3 * 1024 * 1024 - 66 * 1024
"""No response exceeds 3 MiB; the rest is room for a token and for 1,000 ids of 64 bytes that are missing."""

_OVERHEAD_BYTES = 400  # ids, times, numbers and tags of an interaction on the wire are fewer


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
    )
    return _OVERHEAD_BYTES + sum(len(text.encode()) for text in texts)


class Lister:
    """Lists one account's interactions and pictures at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, account_id: int, query: PageQuery) -> Page:
        """A page of interactions. It ends early where it would grow over PAGE_BYTES.

        A picture that is asked for and does not fit onto a page of its own is left out and marked.
        """
        with self._database.read() as conn:
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
                item = PageItem(row)
                size = size_of(row)
                if query.include_images and row.image:
                    if size + row.image.size_bytes > PAGE_BYTES:
                        item = replace(item, image_omitted=True)
                    else:
                        size += row.image.size_bytes
                if len(items) == query.page_size or used + size > PAGE_BYTES:
                    last = items[-1].interaction
                    return Page(items, Cursor(last.created_at, last.interaction_id, max_sequence), missing)
                if query.include_images and row.image and not item.image_omitted:
                    data = interactions.image_data(conn, account_id, row.image.sha256)
                    item = replace(item, image_data=data)
                items.append(item)
                used += size
            return Page(items, None, missing)

    def image(self, account_id: int, interaction_id: str) -> tuple[ImageInfo, bytes]:
        """An interaction's picture with its bytes; NotFound when there is no such interaction or picture."""
        with self._database.read() as conn:
            found = interactions.image_of(conn, account_id, interaction_id)
        if found is None:
            raise NotFound("image")
        return found
