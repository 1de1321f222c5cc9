"""A request in a spool file, and reading it from columns that may hold anything."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from reflexio.spool.database import PUBLISH

if TYPE_CHECKING:
    from reflexio.spool.file import SpoolFile

READ = "SELECT id, request_id, user_id, payload, method, attempts, accepted_at FROM rows"
_COLUMNS = {"request_id": str, "user_id": str, "payload": bytes, "method": str, "attempts": int, "accepted_at": int}
_KINDS = (int, *_COLUMNS.values())
_LATEST = 1 << 55  # the moments of a damaged file shall not lead this process's own out of the range of integers


@dataclass(slots=True)
class Row:
    """A request that waits.

    Attributes:
        row_id: its place in its file.
        request_id: the id under which it is stored, or the delete's own.
        user_id: whose interactions these are; empty when a delete does not say.
        payload: the serialized PublishInteractionStreamRequest, or the request of the method's RPC.
        method: the client's method that took it.
        attempts: how often it failed on its own.
        accepted_at: when that was, in Unix microseconds.
        home: the file it is in.
        fault: what is wrong with it, so that it cannot be sent; empty when nothing is.
    """

    row_id: int
    request_id: str
    user_id: str
    payload: bytes = field(repr=False)
    method: str
    attempts: int
    accepted_at: int
    home: "SpoolFile" = field(repr=False)
    fault: str = ""

    @property
    def is_delete(self) -> bool:
        """It deletes; else it publishes."""
        return self.method != PUBLISH


class Moments(NamedTuple):
    """When the requests of a file were accepted, in Unix microseconds.

    Attributes:
        oldest: the first of them.
        newest: the last of them; 0 when there is none.
        ahead: they tell nothing: some are yet to come, or the clock went back in between.
    """

    oldest: int = 0
    newest: int = 0
    ahead: bool = False


def read_row(found: tuple[Any, ...], home: "SpoolFile") -> Row:
    """The row of what READ gives; its `fault` says which columns hold what they cannot hold."""
    row_id, request_id, user_id, payload, method, attempts, accepted_at = found
    if all(map(isinstance, found, _KINDS)):
        return Row(row_id, request_id, user_id, payload, method, attempts, as_moment(accepted_at), home)
    wrong = [
        name for (name, kind), value in zip(_COLUMNS.items(), found[1:], strict=True) if not isinstance(value, kind)
    ]
    return Row(
        row_id,
        as_text(request_id),
        as_text(user_id),
        payload if isinstance(payload, bytes) else as_text(payload).encode(),
        as_text(method),
        attempts if isinstance(attempts, int) else 0,
        as_moment(accepted_at),
        home,
        f"its {' and '.join(wrong)} cannot be what was accepted",
    )


def as_text(value: object) -> str:
    """Whatever a column of text holds."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def as_moment(value: object) -> int:
    """Whatever a column of Unix microseconds holds."""
    return min(max(value, 0), _LATEST) if isinstance(value, int) else 0
