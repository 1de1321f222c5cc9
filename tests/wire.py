"""What the tests of the contract share: the contract itself, expected failures, streams that stay open."""

import os
import random
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import psycopg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client.parser import text_string_to_metric_families

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.storage.database import DATABASE_FILE
from tests import stores
from tests.support import Caller, Failure, LocalServer, failure_of
from tools.contract import NEVER_STORED as NEVER_STORED
from tools.contract import RPCS as RPCS
from tools.contract import call_raw as call_raw
from tools.contract import path_of as path_of
from tools.contract import random_message as random_message

MIB = 1024 * 1024
DOMAIN = "reflexio"
MICROS = 1_700_000_000_000_000  # a time to count from


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


class SilentCall:
    """A unary call whose message never comes; `apart`: on a connection that no other call shares."""

    def __init__(self, address: str, path: str, metadata: Any = (), *, apart: bool = False) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", int(apart))])
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        call: Any = self._channel.stream_unary(path)  # of a unary method: so that the headers go first
        self.call: Any = call.future(iter(self._messages.get, None), metadata=metadata, timeout=60)

    def code(self) -> grpc.StatusCode:
        error = self.call.exception(30)
        assert isinstance(error, grpc.RpcError)
        code: grpc.StatusCode = error.code()
        return code

    def close(self) -> None:
        self.call.cancel()
        self._messages.put(None)
        self._channel.close()


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
    if stores.databases is not None:
        with psycopg.connect(stores.databases.of(server.data_dir)) as held:
            held.execute("LOCK TABLE account_counters IN EXCLUSIVE MODE")
            yield
            held.rollback()
        return
    with closing(sqlite3.connect(server.data_dir / DATABASE_FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def scrape(server: LocalServer) -> dict[str, dict[tuple[str, ...], float]]:
    """All samples of a server with metrics, by name and then by the values of their labels."""
    with urllib.request.urlopen(f"http://{server.app.metrics_address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels[key] for key in sorted(sample.labels))] = sample.value
    return found


def metric(server: LocalServer, name: str, *labels: str) -> float | None:
    return scrape(server).get(name, {}).get(labels)


def to_first_schema(data_dir: Path) -> None:
    """Make the database of a stopped server what the first version would have left."""
    first = import_module("reflexio_server.storage.migrations.versions.0001_initial")
    with closing(sqlite3.connect(data_dir / DATABASE_FILE)) as conn:
        conn.executescript(
            """ALTER TABLE accounts ADD COLUMN last_sequence BIGINT NOT NULL DEFAULT 0;
               UPDATE accounts SET last_sequence =
                   (SELECT c.last_sequence FROM account_counters c WHERE account_id = id);
               UPDATE interactions SET model =
                   (SELECT v.model FROM vectors v WHERE v.interaction_ref = interactions.id) WHERE model IS NULL;
               CREATE INDEX interactions_waiting ON interactions (account_id, user_ref, id)
               WHERE model IS NULL;
               DROP TABLE schema_range; DROP TABLE index_store; DROP TABLE waiting; DROP TABLE account_counters;
               DROP TABLE full_text; DROP VIEW full_text_rows; DROP TABLE words_state;
               DROP TABLE IF EXISTS interactions_fts; DROP VIEW IF EXISTS interactions_text;
               ALTER TABLE interactions DROP COLUMN words; ALTER TABLE interactions DROP COLUMN words_version;
               DROP INDEX interactions_with_unread_pictures; ALTER TABLE interactions DROP COLUMN picture_read;
               ALTER TABLE images DROP COLUMN text; ALTER TABLE images DROP COLUMN reader;
               DROP TABLE erased_vectors; DROP INDEX interactions_by_image;
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
        for statement in first.FULL_TEXT_DDL:
            conn.execute(statement)
        conn.execute("INSERT INTO interactions_fts (interactions_fts) VALUES ('rebuild')")
        conn.commit()
