"""What the tests of the contract share: calls by descriptor, raw bytes, random messages, expected failures."""

import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.v1 import auth_service_pb2, interaction_service_pb2
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage.database import DATABASE_FILE
from tests.support import Caller, Failure, LocalServer, failure_of

MIB = 1024 * 1024
DOMAIN = "reflexio"
NEVER_STORED = "01900000-0000-7000-8000-000000000000"  # an id of the right form that nothing has
MICROS = 1_700_000_000_000_000  # a time to count from

RPCS: dict[str, MethodDescriptor] = {
    method.full_name: method
    for file in (interaction_service_pb2, auth_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
"""Every RPC of every service of the contract: whoever adds one has it tested from the first day."""

Metadata = Sequence[tuple[str, str | bytes]]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def call_raw(channel: grpc.Channel, method: MethodDescriptor, raws: Iterable[bytes], metadata: Metadata) -> list[bytes]:
    """Make any call with bytes as they are, and return the answers; of a unary request only the first is sent."""
    path = path_of(method)
    if method.client_streaming:
        assert not method.server_streaming, "teach call_raw the new kind"
        return [channel.stream_unary(path)(iter(raws), metadata=metadata, timeout=30)]  # type: ignore[arg-type]
    (raw,) = raws
    if method.server_streaming:
        return list(channel.unary_stream(path)(raw, metadata=metadata, timeout=30))  # type: ignore[arg-type]
    return [channel.unary_unary(path)(raw, metadata=metadata, timeout=30)]  # type: ignore[arg-type]


def code_of(call: Callable[[], Any]) -> grpc.StatusCode:
    try:
        call()
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def failure(call: Callable[..., Any], *arguments: Any, **named: Any) -> Failure:
    """The failure of a call that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **named)
    return failure_of(caught.value)


def expect(found: Failure, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
    """The code and the whole ErrorInfo."""
    assert found.code is code, found
    assert found.info is not None, found
    assert (found.info.reason, found.info.domain) == (reason, DOMAIN)
    assert dict(found.info.metadata) == metadata


def publish(
    caller: Caller, user_id: str, *items: noun.InteractionData, **fields: Any
) -> pb.PublishInteractionsResponse:
    request = pb.PublishInteractionsRequest(user_id=user_id, interactions=items, **fields)
    return caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=60)


def everything(caller: Caller, **fields: Any) -> list[noun.Interaction]:
    """All pages of a listing."""
    page = caller.get(page_size=1000, **fields)
    found = list(page.interactions)
    while page.next_page_token:
        page = caller.get(page_size=1000, page_token=page.next_page_token, **fields)
        found += page.interactions
    return found


def say(request_id: str, content: str = "", user_id: str = "u") -> pb.PublishInteractionsRequest:
    """A request with one interaction, which says its request's id if nothing else."""
    items = [noun.InteractionData(content=content or request_id)]
    return pb.PublishInteractionsRequest(user_id=user_id, request_id=request_id, interactions=items)


class OpenStream:
    """A publish stream that stays open until it is closed."""

    def __init__(self, caller: Caller) -> None:
        self._messages: SimpleQueue[pb.PublishInteractionStreamRequest | None] = SimpleQueue()
        self.call = caller.interactions.PublishInteractionStream.future(
            iter(self._messages.get, None), metadata=caller.metadata, timeout=60
        )

    def send(self, *request_ids: str) -> None:
        """Send requests with one interaction each, which says its request's id."""
        for request_id in request_ids:
            request = say(request_id)
            self._messages.put(pb.PublishInteractionStreamRequest(request=request))

    def close(self) -> pb.PublishInteractionStreamResponse:
        self._messages.put(None)
        answer: pb.PublishInteractionStreamResponse = self.call.result(30)
        return answer


def seeded() -> random.Random:
    """A source of randomness whose seed is printed; REFLEXIO_TEST_SEED repeats a run."""
    seed = int(os.environ.get("REFLEXIO_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"REFLEXIO_TEST_SEED={seed}")
    return random.Random(seed)


def timestamp(micros: int) -> Timestamp:
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def micros_of(time: Timestamp) -> int:
    return time.seconds * 1_000_000 + time.nanos // 1000


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60) -> None:
    """Wait for something that happens in the background."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


@contextmanager
def blocked_writer(server: LocalServer) -> Iterator[None]:
    """Another program holds the database's write lock, so that the server's writer waits as behind a slow disk.

    For less than 10 seconds: then it gives up.
    """
    with closing(sqlite3.connect(server.data_dir / DATABASE_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def to_first_schema(data_dir: Path) -> None:
    """Make the database of a stopped server what the first version would have left."""
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        conn.executescript(
            """DROP TABLE erased_vectors; DROP INDEX interactions_by_image;
               ALTER TABLE accounts DROP COLUMN erased; ALTER TABLE accounts DROP COLUMN settled;
               ALTER TABLE users DROP COLUMN erasures;
               ALTER TABLE requests DROP COLUMN erased_at; ALTER TABLE requests DROP COLUMN published_ids;
               ALTER TABLE accounts DROP COLUMN disabled_at; DROP TABLE live_model; DROP TABLE jobs;
               ALTER TABLE collections DROP COLUMN folder; ALTER TABLE collections DROP COLUMN rebuilt_at;
               ALTER TABLE collections DROP COLUMN verified_at;
               DROP INDEX requests_by_user; DROP INDEX requests_by_group;
               ALTER TABLE requests DROP COLUMN created_at; ALTER TABLE requests DROP COLUMN sequence;
               CREATE INDEX requests_by_group ON requests (user_ref, request_group);
               UPDATE alembic_version SET version_num = '0001';"""
        )


_NUMBERS = (0, 1, 2, 5, 1000, 1001, 2**31 - 1)
_TEXTS = ("", " ", "a", "words of a text", "\0", "é" * 300, "🙂", '"*:^(AND', "x" * 70_000, NEVER_STORED)


def random_message(message_type: type[Message], source: random.Random) -> Message:
    """A message with every field set or not, to a value that may be an extreme."""
    message = message_type()
    for field in message.DESCRIPTOR.fields:
        if source.random() < 0.4:
            continue
        count = source.choice((0, 1, 1, 3)) if field.is_repeated else 1
        values = [_random_value(field, source) for _ in range(count)]
        if field.message_type is not None and not field.is_repeated:
            getattr(message, field.name).CopyFrom(values[0])
        elif field.is_repeated:
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, values[0])
    return message


def _random_value(field: Any, source: random.Random) -> Any:
    if field.message_type is not None:
        return random_message(GetMessageClass(field.message_type), source)
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return source.choice(_TEXTS)
        case FieldDescriptor.TYPE_BYTES:
            return source.randbytes(source.choice((0, 1, 100)))
        case FieldDescriptor.TYPE_BOOL:
            return source.random() < 0.5
        case FieldDescriptor.TYPE_DOUBLE:
            return source.choice((0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), float("inf"), float("-inf")))
        case FieldDescriptor.TYPE_ENUM:
            return source.choice((0, 1, 2, 3, 4, 99))
        case FieldDescriptor.TYPE_UINT32:
            return source.choice((*_NUMBERS, 2**32 - 1))
        case FieldDescriptor.TYPE_INT32:
            return source.choice((*_NUMBERS, -1, -(2**31)))
        case FieldDescriptor.TYPE_INT64:
            return source.choice((*_NUMBERS, -1, -(2**63), 2**63 - 1))
    raise AssertionError(f"teach random_message the type of {field.full_name}")
