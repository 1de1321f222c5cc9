"""What publishing takes in bulk, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from reflexio.errors import ReflexioError
from reflexio.models import Publishable


@dataclass(slots=True)
class PublishRequest:
    """One request of `publish_many`: interactions of one user that belong together.

    Attributes:
        user_id: whose interactions these are.
        interactions: as `publish_interaction` takes them, in the order they happened.
        request_group: the thread they belong to, within the user; empty: the request stands alone.
        source: where they come from.
        agent_version: the version of the agent that took part.
        request_id: your own id, unique within the account, with which publishing can be repeated; empty: made here.
    """

    user_id: str
    interactions: Sequence[Publishable]
    request_group: str | None = None
    source: str = ""
    agent_version: str = ""
    request_id: str | None = None


@dataclass(slots=True)
class PublishUserInteractionResponse:
    """What was stored.

    Attributes:
        success: always True; failures are raised.
        message: what happened, for a person.
        request_id: the id of the request.
        interaction_ids: in the order they were sent; empty when the outbox delivered them.
        searchable: all of it is found by meaning now; None when the outbox delivered it.
        replayed: it had been stored before; None when the outbox delivered it.
    """

    success: bool
    message: str
    request_id: str
    interaction_ids: list[str] = field(default_factory=list)
    searchable: bool | None = None
    replayed: bool | None = None


@dataclass(slots=True)
class DeleteResponse:
    """What was deleted.

    Attributes:
        success: always True; failures are raised.
        message: what happened, for a person.
        requests: how many requests nothing is left of.
        interactions: how many interactions.
        images: how many pictures that no interaction of the account has any more.
    """

    success: bool
    message: str
    requests: int
    interactions: int
    images: int

    @property
    def deleted_requests_count(self) -> int:
        """The same as `requests`."""
        return self.requests


@dataclass(slots=True)
class Rejection:
    """A request that was refused.

    Attributes:
        index: its position in the iterable given to `publish_many`, from 0; None when it came by the outbox.
        request_id: its id; empty when it could not be read.
        reason: name of an `ErrorReason` of the contract, such as "INVALID_FIELD".
        field: the field that is wrong, such as "interactions[3].image"; may be empty.
        message: what is wrong and what to do, for a person.
    """

    index: int | None
    request_id: str
    reason: str
    field: str
    message: str


@dataclass(slots=True)
class Delivery:
    """The end of a publish or a delete that was not waited for, as `on_delivery` gets it.

    Attributes:
        request_id: the id of the request; of a delete, that of its receipt.
        user_id: whose interactions these are; empty when a delete did not say.
        error: why it was refused; None: it is done. After a delete `NotFoundError`: nothing of it was there.
        adopted: it was accepted by a process that ended before it could deliver it.
        method: the method that took it: "publish_interaction", "delete_user" and so on.
    """

    request_id: str
    user_id: str
    error: ReflexioError | None = None
    adopted: bool = False
    method: str = "publish_interaction"

    @property
    def stored(self) -> bool:
        """It was a publish, and it is stored."""
        return self.error is None and self.method == "publish_interaction"


@dataclass(slots=True)
class Counts:
    """What became of a number of things.

    Attributes:
        stored: stored by this call.
        duplicate: had been stored before, perhaps by an attempt of this very call whose answer was lost.
        rejected: refused.
    """

    stored: int = 0
    duplicate: int = 0
    rejected: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.stored + self.duplicate + self.rejected


@dataclass(slots=True)
class BulkProgress:
    """How far `publish_many` has come: counts of what is settled, and the seconds since it began."""

    requests: Counts
    interactions: Counts
    seconds: float


@dataclass(slots=True)
class BulkResult:
    """What became of everything given to `publish_many`.

    Attributes:
        requests: counts of the requests.
        interactions: counts of their interactions.
        rejections: the refused requests by their index, at most 10,000; none when they went to a file.
        unlisted: how many more were refused than `rejections` lists; 0 when they went to a file.
        rejections_file: the file that has every rejection; empty when none was given or nothing was refused.
    """

    requests: Counts = field(default_factory=Counts)
    interactions: Counts = field(default_factory=Counts)
    rejections: list[Rejection] = field(default_factory=list)
    unlisted: int = 0
    rejections_file: str = ""


class BulkInterruptedError(ReflexioError):
    """`publish_many` could not go on; `__cause__` says why.

    Attributes:
        result: what became of the requests until then. Those not counted in it may or may not be stored.
    """

    def __init__(self, message: str, result: BulkResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(slots=True)
class FlushResult:
    """What a flush left behind.

    Attributes:
        pending: how many publishes and deletes are still on their way, or were lost with a damaged spool file.
        error: why the last attempt to deliver failed; empty when nothing is pending or nothing failed yet.
    """

    pending: int
    error: str = ""

    @property
    def delivered(self) -> bool:
        """Nothing is left: each request was carried out, or refused and reported by its receipt and `stats()`."""
        return self.pending == 0


@dataclass(slots=True)
class ClientStats:
    """The outbox of a client, in numbers.

    Attributes:
        pending: publishes and deletes still on their way.
        pending_bytes: their size.
        delivered: requests the server has acknowledged.
        rejected: requests that were refused, those included that were erased before they came again.
        rejections: the last 1,000 of the refused.
        last_error: why the last attempt to deliver failed, or else what is wrong with the spool's files or was raised
            by on_delivery; empty when all is well.
        adopted: requests taken over from processes that ended before they could deliver them.
        dead: refused requests kept in the spool; `python -m reflexio.spool dead` shows them.
        spool_path: the spool file; empty when there is none, because nothing was published or no disk can be written.
        durable: what is pending outlives this process; False: it is in memory only, because no disk can be written.
    """

    pending: int = 0
    pending_bytes: int = 0
    delivered: int = 0
    rejected: int = 0
    rejections: list[Rejection] = field(default_factory=list)
    last_error: str = ""
    adopted: int = 0
    dead: int = 0
    spool_path: str = ""
    durable: bool = True
