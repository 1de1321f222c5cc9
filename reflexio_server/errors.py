"""What can go wrong, in the domain's words. rpc/errors.py maps each to one status; nothing else does."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that breaks a rule. `count` and `maximum` are set when it is over a limit."""

    field: str
    description: str
    count: int | None = None
    maximum: int | None = None


class Ended(Exception):
    """The call ended before its work was done: nobody is there to be told."""


class DomainError(Exception):
    """The root of everything a caller may be told."""


class InvalidInput(DomainError):
    """Fields break a rule; `total` counts them all, `violations` holds at least the first 20."""

    def __init__(self, violations: Sequence[Violation], total: int | None = None) -> None:
        super().__init__(f"{violations[0].field}: {violations[0].description}")
        self.violations = violations
        self.total = len(violations) if total is None else total


class MalformedMessage(DomainError):
    """The bytes are not a message of the called RPC."""


class Unauthenticated(DomainError):
    """No valid key."""


class WrongPassword(Unauthenticated):
    """At login: no such account, a disabled one, or a wrong password. They must not be told apart."""


class NotFound(DomainError):
    """It is not there, or it is another account's: the two must not be told apart."""

    def __init__(self, resource: str) -> None:
        super().__init__(resource)
        self.resource = resource


class RequestIdReused(DomainError):
    """The request_id was stored before with another body."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


class RequestErased(DomainError):
    """The request_id belongs to a request that was erased."""

    def __init__(self, request_id: str) -> None:
        super().__init__(request_id)
        self.request_id = request_id


class TooBusy(DomainError):
    """A bounded resource is used up; try again after `retry_after` seconds."""

    def __init__(self, limit: str, retry_after: float = 1.0) -> None:
        super().__init__(limit)
        self.limit = limit
        self.retry_after = retry_after


class TooManyWatchers(DomainError):
    """No further call may watch the health of the server."""


class Draining(DomainError):
    """The server is shutting down."""


class StorageUnavailable(DomainError):
    """The server cannot read or write its files at the moment."""


class DatabaseUnavailable(DomainError):
    """The database cannot be reached at the moment; whether a write that was under way is stored is not known."""


class ModelNotHere(DomainError):
    """The store uses an embedding model whose files this server does not have; another server may."""


class NotLeader(DomainError):
    """Another process may lead by now, so this one writes nothing of what only the leader may."""


class DiskFull(DomainError):
    """The disk has no room for the write; nothing of it was stored."""


class Damaged(DomainError):
    """The database is damaged: a backup must be restored."""
