"""What a server takes in memory with many accounts, and with many large messages at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import interaction_pb2
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.accounts import hash_password
from reflexio_server.storage import accounts
from reflexio_server.storage.database import Database
from tools.benchmarks.calls import Caller, log_in
from tools.benchmarks.filling import Language, Progress
from tools.benchmarks.processes import memory_mb
from tools.benchmarks.stores import empty, wait_for_index
from tools.server_process import PASSWORD

ACCOUNTS, INTERACTIONS = 600, 20
LARGE_CALLS, PICTURE_BYTES = 64, 7_500_000  # two pictures a call
_REFUSED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
_RETRY_SECONDS, _SECONDS = 0.2, 900.0
_METHOD = "/reflexio.v1.InteractionService/PublishInteractions"


def of_accounts(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Many small accounts, each with some interactions that are indexed, each searched once as a whole."""
    language = Language(3)
    with empty(*arguments) as store:
        emails = _make_accounts(store.data_dir, ACCOUNTS)
        callers = []
        progress = Progress(f"publishing to {ACCOUNTS} accounts", ACCOUNTS)
        for number, email in enumerate(emails):
            progress.reached(number)
            callers.append(Caller(store.address, log_in(store.address, email)))
            callers[-1].publish("ada", language.turns(INTERACTIONS))
        wait_for_index(store.database, "many accounts")
        for caller in callers:
            if not caller.search(language.question()).hits:
                raise RuntimeError("an account's interactions are not found")
        return {"rss_600_accounts_mb": round(memory_mb(store.pid))}


def of_large_messages(arguments: tuple[str, ...]) -> dict[str, Any]:
    """Publishes of 15 MB at once by two accounts, each on a connection of its own; refused ones are sent again."""
    with empty("--no-indexing", *arguments) as store:
        keys = [log_in(store.address, email) for email in _make_accounts(store.data_dir, 2)]
        calls = [(keys[number % len(keys)], number) for number in range(LARGE_CALLS)]
        with ThreadPoolExecutor(LARGE_CALLS) as pool:
            list(pool.map(partial(_publish_large, store.address), calls))
        peak = round(memory_mb(store.pid, "VmHWM"))
        for key in keys:
            threads = Caller(store.address, key).requests("ada", 1_000).request_groups
            if (stored := sum(len(thread.requests) for thread in threads)) != LARGE_CALLS // len(keys):
                raise RuntimeError(f"an account has {stored} of its {LARGE_CALLS // len(keys)} requests")
        return {"peak_large_mb": peak}


def _publish_large(address: str, call: tuple[str, int]) -> None:
    key, number = call
    pictures = [interaction_pb2.InteractionData(image=os.urandom(PICTURE_BYTES)) for _ in range(2)]
    request = pb.PublishInteractionsRequest(user_id="ada", request_id=f"large {number}", interactions=pictures)
    message = request.SerializeToString()
    del pictures, request
    deadline = time.monotonic() + _SECONDS
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        publish: Any = channel.unary_unary(_METHOD, None, pb.PublishInteractionsResponse.FromString)
        while True:
            try:
                publish(message, metadata=(("authorization", f"Bearer {key}"),), timeout=_SECONDS)
                return
            except grpc.RpcError as error:
                if error.code() not in _REFUSED or time.monotonic() > deadline:
                    raise
            time.sleep(_RETRY_SECONDS)


def _make_accounts(data_dir: Path, count: int) -> list[str]:
    """Beside the server that has the data directory, as its command line makes them, but all with one password."""
    emails = [f"{number}@example.com" for number in range(count)]
    hashed = hash_password(PASSWORD)
    database = Database(data_dir, owner=False)
    try:
        with database.write() as conn:
            for number, email in enumerate(emails):
                accounts.add_account(conn, email, f"bench{number:05}", hashed, 0)
    finally:
        database.close()
    return emails
