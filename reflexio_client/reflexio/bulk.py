"""An iterable of any size -> bounded client streams, without their I/O; both clients carry the streams."""

import json
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TextIO

from reflexio import checks, convert
from reflexio.errors import InvalidArgumentError, ReflexioError, UnavailableError
from reflexio.models import SupportsModelDump
from reflexio.outcomes import BulkInterruptedError, BulkProgress, BulkResult, PublishRequest, Rejection
from reflexio.retry import Patience, is_refusal, plan_after
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.verdict import read_verdict

SEGMENT_REQUESTS = 1000  # as many as a verdict lists, so that no rejection goes unlisted
SEGMENT_BYTES = 8 * 1024 * 1024
_ATTEMPTS = 8
_KEPT_REJECTIONS = 10_000
_HOPELESS = ("", "UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED")  # "": found here, such as a closed client

Item = PublishRequest | Mapping[str, Any] | SupportsModelDump


@dataclass(slots=True)
class _Row:
    index: int
    request_id: str
    interactions: int
    payload: bytes = b""
    attempts: int = 0


class Bulk:
    """One `publish_many`: the segment at hand, and the counts of all before it."""

    def __init__(self, seconds: float, rejections_file: str | os.PathLike[str] | None = None) -> None:
        self._seconds = seconds
        self._file_path = rejections_file
        self._file: TextIO | None = None
        self._result = BulkResult()
        self._began = time.monotonic()
        self._rows: list[_Row] = []
        self._bytes = 0
        self._next_index = 0
        self._limit = SEGMENT_REQUESTS
        self._failures = 0
        self._patience = Patience(seconds)
        self._broken: Exception | None = None  # what the iterable raised

    def segments(self, items: Iterable[Item]) -> Iterator[None]:
        """Fill one segment after the other; whoever iterates sends each before asking for the next."""
        iterator = self._iterator(items)
        while True:
            try:
                item = next(iterator)
            except StopIteration:
                break
            except Exception as error:
                self._broken = error
                break
            self._add(item)
            if self._full():
                self._begin()
                yield
        self._begin()
        yield
        self._check_whole()

    async def segments_async(self, items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[None]:
        """As `segments`, from either kind of iterable."""
        if not isinstance(items, AsyncIterable):
            for _ in self.segments(items):
                yield
            return
        iterator = aiter(items)
        while True:
            try:
                item = await anext(iterator)
            except StopAsyncIteration:
                break
            except Exception as error:
                self._broken = error
                break
            self._add(item)
            if self._full():
                self._begin()
                yield
        self._begin()
        yield
        self._check_whole()

    def payloads(self) -> list[bytes]:
        """The messages of the next stream of this segment; none when the segment is done."""
        return [row.payload for row in self._rows[: self._limit]]

    def seconds_left(self) -> float:
        return self._patience.left()

    def read(self, answer: pb.PublishInteractionStreamResponse) -> float:
        """Take the verdict on `payloads()`; returns how many seconds to wait before the next stream."""
        batch = self._rows[: self._limit]
        try:
            verdict = read_verdict(answer, len(batch))
        except ReflexioError as error:
            return self.failed(error)
        settled = set(verdict.stored)
        if verdict.stored:
            self._result.requests.stored += answer.requests.stored
            self._result.requests.duplicate += answer.requests.duplicate
            self._result.interactions.stored += answer.interactions.stored
            self._result.interactions.duplicate += answer.interactions.duplicate
        for index, rejection in (verdict.refused | verdict.failed).items():
            row = batch[index]
            row.attempts += 1
            if index in verdict.refused or row.attempts == _ATTEMPTS:
                settled.add(index)
                self._reject(row, rejection)
        self._rows = [row for index, row in enumerate(batch) if index not in settled] + self._rows[len(batch) :]
        if not settled:
            return self.failed(UnavailableError("the stream ended before anything was settled", code="UNAVAILABLE"))
        self._failures = 0
        self._limit = min(SEGMENT_REQUESTS, self._limit * 2)
        return 0.0

    def failed(self, error: ReflexioError) -> float:
        """Take the failure of a stream; returns the seconds to wait, or raises BulkInterruptedError."""
        if is_refusal(error):  # it says when to come again, and costs nothing but time
            return self._pause(error)
        size = min(self._limit, len(self._rows))
        plan = plan_after(error)
        if plan.attempts == 1 and error.code not in _HOPELESS:  # it is what was sent: find out which request
            if size > 1:
                self._limit = size // 2
            else:
                self._reject(self._rows.pop(0), _rejection_of(error))
            return 0.0
        self._failures += plan.attempts is not None
        if error.code in _HOPELESS or self._failures == _ATTEMPTS:
            raise self._interrupted(error) from error
        if plan.split:
            self._limit = max(1, size // 2)
        return self._pause(error)

    def progress(self) -> BulkProgress:
        return BulkProgress(
            replace(self._result.requests), replace(self._result.interactions), time.monotonic() - self._began
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def result(self) -> BulkResult:
        if self._file is not None:
            self._file.flush()
        self._result.rejections.sort(key=lambda rejection: rejection.index or 0)
        return self._result

    def _iterator(self, items: Iterable[Item]) -> Iterator[Item]:
        try:
            return iter(items)
        except TypeError:
            checks.refuse("requests", f"must be an iterable of requests, not {type(items).__name__}")

    def _check_whole(self) -> None:
        """Raise when the iterable broke off; what it gave until then is settled."""
        if self._broken is not None:
            raise BulkInterruptedError(
                f"the iterable of requests raised {type(self._broken).__name__} after {self._next_index:,} of them, "
                "which are all in the result",
                self.result(),
            ) from self._broken

    def _add(self, item: Item) -> None:
        index = self._next_index
        self._next_index += 1
        try:
            message = convert.publish_message(convert.publish_request(item))
        except InvalidArgumentError as error:
            self._reject(_Row(index, *_outline(item)), _rejection_of(error))
            return
        payload = pb.PublishInteractionStreamRequest(request=message).SerializeToString()
        self._rows.append(_Row(index, message.request_id, len(message.interactions), payload))
        self._bytes += len(payload)

    def _full(self) -> bool:
        return len(self._rows) >= SEGMENT_REQUESTS or self._bytes >= SEGMENT_BYTES

    def _begin(self) -> None:
        self._bytes = 0
        self._limit = SEGMENT_REQUESTS
        self._failures = 0
        self._patience = Patience(self._seconds)

    def _reject(self, row: _Row, rejection: Rejection) -> None:
        self._result.requests.rejected += 1
        self._result.interactions.rejected += row.interactions
        refused = replace(rejection, index=row.index, request_id=row.request_id)
        if self._file_path is not None:
            if self._file is None:
                self._file = open(self._file_path, "w", encoding="utf-8")  # noqa: SIM115 - closed by close()
                self._result.rejections_file = os.fspath(self._file_path)
            self._file.write(json.dumps(asdict(refused), ensure_ascii=False) + "\n")
        elif len(self._result.rejections) < _KEPT_REJECTIONS:
            self._result.rejections.append(refused)
        else:
            self._result.unlisted += 1

    def _pause(self, error: ReflexioError) -> float:
        try:
            return self._patience.pause(error)
        except ReflexioError:
            raise self._interrupted(error) from error

    def _interrupted(self, error: ReflexioError) -> BulkInterruptedError:
        done = self.result().requests.total
        return BulkInterruptedError(f"publish_many stopped after {done:,} settled requests: {error}", self._result)


def _rejection_of(error: ReflexioError) -> Rejection:
    field = error.violations[0][0] if isinstance(error, InvalidArgumentError) and error.violations else ""
    return Rejection(None, "", error.reason or error.code, field, str(error))


def _outline(item: object) -> tuple[str, int]:
    """The request_id and the number of interactions of an item that may be wrong in any way."""
    given = item if isinstance(item, Mapping) else {name: getattr(item, name, None) for name in convert.REQUEST_KEYS}
    request_id, interactions = given.get("request_id"), given.get("interactions")
    return (
        request_id if isinstance(request_id, str) else "",
        len(interactions) if isinstance(interactions, list | tuple) else 0,
    )
