"""Publishing, each figure beside its bound: streams beside the bare writer, unary calls beside an empty handler."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc import convert
from reflexio_server.storage import accounts
from reflexio_server.storage.database import Database
from reflexio_server.storage.rows import insert_rows, make_rows
from tools.benchmarks.beside import Arm, in_turn
from tools.benchmarks.calls import log_in
from tools.benchmarks.processes import memory_mb
from tools.server_process import ServerProcess, create_account

PER_REQUEST = 10  # a conversation, or a good part of one
PAIR = 2  # a question and its answer
PAIRS_IN_MESSAGE = 100
TRANSACTION_ROWS = 1000
ROUNDS = 3  # of each pair of arms, in turn, as the machine may be busier in one moment than in another
ROUND_ROWS = 60_000
BESIDE_ROUNDS = 7
STREAMS = 2
UNARY_CALLERS = 32
UNARY_SECONDS = 3.0
SPOOL_CALLS = 3_000
_STREAM = "/reflexio.v1.InteractionService/PublishInteractionStream"


def run(rows: int, arguments: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, Any]]:
    """All figures, in one run, of servers with these arguments; and more for the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        email = create_account(folder / "data")
        server = _start(folder / "data", arguments)
        create_account(folder / "echo", email)
        echo = _start(folder / "echo", arguments, "tools.benchmarks.echo_server")
        bare = _start(folder / "bare", arguments, "tools.benchmarks.bare_server")
        try:
            key, echo_key = log_in(server.address, email), log_in(echo.address, email)
            url = f"http://{server.address}/"
            bulk = _streams(folder / "bulk", server.address, key, PER_REQUEST)
            pairs = _streams(folder / "pairs", server.address, key, PAIR, PAIRS_IN_MESSAGE)
            calls = _median_of_ratios(
                lambda: _child("unary", server.address, key)["per_s"],
                lambda: _child("unary", echo.address, echo_key)["per_s"],
            )
            echoes = _median_of_ratios(
                lambda: _child("unary", echo.address, echo_key)["per_s"],
                lambda: _child("unary", bare.address, echo_key)["per_s"],
            )
            up = _child("spool", url, key, name)
            growth = _growth(server, url, key, rows)
        finally:
            server.terminate()
            echo.terminate()
            bare.terminate()
        down = _child("spool", url, key, name)
    figures = {
        "stream_rows_per_s": round(bulk[0]),
        "ceiling_rows_per_s": round(bulk[1]),
        "stream_ratio": round(bulk[0] / bulk[1], 3),
        "pair_ratio": round(pairs[0] / pairs[1], 3),
        "unary_per_s": round(calls[0]),
        "echo_per_s": round(calls[1]),
        "unary_ratio": round(calls[0] / calls[1], 3),
        "echo_ratio": round(echoes[0] / echoes[1], 3),
        "spool_call_p50_us": {"up": up["p50"], "down": down["p50"]},
        "spool_call_p99_us": {"up": up["p99"], "down": down["p99"]},
        "rss_growth_mb": growth,
    }
    more = {
        "of pairs": {"rows/s": round(pairs[0]), "ceiling": round(pairs[1])},
        "of echoes": {"calls/s": round(echoes[0]), "bare": round(echoes[1])},
        "spool call with pauses, p50 us": {"up": up["paced_p50"], "down": down["paced_p50"]},
        "spool call with pauses, p99 us": {"up": up["paced_p99"], "down": down["paced_p99"]},
    }
    return figures, more


def beside(new: Arm, old: Arm, rows: int) -> list[dict[str, float]]:
    """The figures of both; of each the round with the median ratio. Streams have `rows` interactions, ROUND_ROWS at
    most."""
    from tools.benchmarks import ingest_load

    for arm in (new, old):
        arm.start()
    rows, numbers = min(rows, ROUND_ROWS), count()
    rounds = min(BESIDE_ROUNDS, 1 + rows // 1_000)
    seconds = min(UNARY_SECONDS, rows / 1_000)
    calls: dict[str, Callable[[Arm], float]] = {
        "stream_rows_per_s": lambda arm: stream_per_s(
            arm.address, arm.key, f"stream-{next(numbers)}", PER_REQUEST, rows
        ),
        "pairs_rows_per_s": lambda arm: stream_per_s(arm.address, arm.key, f"pairs-{next(numbers)}", PAIR, rows),
        "unary_per_s": lambda arm: ingest_load.unary(arm.address, arm.key, seconds)["per_s"],
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(-1, rounds):
        for name, call in calls.items():
            pair = in_turn(call, new, old, number)
            if number >= 0:  # the one before warms up both
                taken[name].append(pair)
    median = {name: sorted(pairs, key=lambda pair: pair[0] / pair[1])[rounds // 2] for name, pairs in taken.items()}
    return [{name: round(pair[place]) for name, pair in median.items()} for place in (0, 1)]


def _start(data_dir: Path, arguments: Sequence[str], module: str = "reflexio_server") -> ServerProcess:
    return ServerProcess(data_dir, None, "--no-indexing", *arguments, module=module)


def _median_of_ratios(ours: Callable[[], float], bound: Callable[[], float]) -> tuple[float, float]:
    """Both in turn, ROUNDS times; the round with the median ratio."""
    rounds = sorted(((ours(), bound()) for _ in range(ROUNDS)), key=lambda round: round[0] / round[1])
    return rounds[ROUNDS // 2]


def _streams(folder: Path, address: str, key: str, per_request: int, in_one: int = 1) -> tuple[float, float]:
    """Rows a second of streams with so many requests in a message, and of the writer's statements alone."""
    folder.mkdir()
    database = Database(folder, owner=True)
    with database.write() as conn:
        accounts.add_account(conn, "ceiling@example.com", "ceiling000", "-", 0)
    numbers = count()
    try:
        return _median_of_ratios(
            lambda: stream_per_s(address, key, f"{folder.name}-{next(numbers)}", per_request, in_one=in_one),
            lambda: _ceiling(database, f"{folder.name}-{next(numbers)}", per_request),
        )
    finally:
        database.close()


def made_requests(name: str, rows: int, per_request: int) -> Iterator[pb.PublishInteractionsRequest]:
    said = "message {} of a conversation about parcels, invoices and the weather, long enough to be lifelike"
    for number in range(rows // per_request):
        items = [
            noun.InteractionData(role=("User", "Agent")[turn % 2], content=said.format(number * per_request + turn))
            for turn in range(per_request)
        ]
        yield pb.PublishInteractionsRequest(
            user_id=f"user-{number % 100}",
            request_group=f"thread-{number % 1000}",
            source="bench",
            request_id=f"{name}-{number}",
            interactions=items,
        )


def messages(
    requests: Iterator[pb.PublishInteractionsRequest], in_one: int
) -> Iterator[pb.PublishInteractionStreamRequest]:
    """One request in each message, or so many."""
    if in_one == 1:
        yield from (pb.PublishInteractionStreamRequest(request=request) for request in requests)
    while part := list(islice(requests, in_one)):
        yield pb.PublishInteractionStreamRequest(requests=part)


def _ceiling(database: Database, name: str, per_request: int) -> float:
    """Rows a second of the writer's own statements on rows that are made already."""
    requests = [(1, convert.new_request(request)) for request in made_requests(name, ROUND_ROWS, per_request)]
    at_once = TRANSACTION_ROWS // per_request
    spent = 0.0
    for start in range(0, len(requests), at_once):
        with database.write() as conn:
            rows, _ = make_rows(conn, requests[start : start + at_once], 0)
            began = time.perf_counter()
            insert_rows(conn, rows)
            conn.commit()
            spent += time.perf_counter() - began
    return ROUND_ROWS / spent


def stream_per_s(address: str, key: str, name: str, per_request: int, rows: int = ROUND_ROWS, in_one: int = 1) -> float:
    """Rows a second over client streams of messages that are made already; the server does the rest."""
    return streams_per_s([(address, key)] * STREAMS, name, per_request, rows, in_one)


def streams_per_s(writers: Sequence[tuple[str, str]], name: str, per_request: int, rows: int, in_one: int) -> float:
    """The same of a stream for each of these addresses and keys, which share the rows."""
    requests = [made_requests(f"{name}-{number}", rows // len(writers), per_request) for number in range(len(writers))]
    shares = [[message.SerializeToString() for message in messages(share, in_one)] for share in requests]
    with ExitStack() as opened:
        streams: dict[str, grpc.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]] = {}
        for address in {address for address, _ in writers}:
            channel = opened.enter_context(grpc.insecure_channel(address))
            streams[address] = channel.stream_unary(_STREAM, None, pb.PublishInteractionStreamResponse.FromString)
        began = time.perf_counter()
        calls = [
            streams[address].future(iter(share), metadata=(("authorization", f"Bearer {key}"),), timeout=600)
            for (address, key), share in zip(writers, shares, strict=True)
        ]
        stored = sum(call.result().interactions.stored for call in calls)
        spent = time.perf_counter() - began
    if stored != rows:
        raise RuntimeError(f"stored {stored} of {rows}")
    return rows / spent


def _growth(server: ServerProcess, url: str, key: str, rows: int) -> dict[str, float]:
    """How much the memory of server and client grew over a bulk upload from a generator, in MB."""
    before = memory_mb(server.process.pid)
    client = _child("bulk", url, key, str(rows))["grown"]
    return {"server": round(memory_mb(server.process.pid) - before, 1), "client": client}


def _child(what: str, *arguments: str) -> dict[str, Any]:
    """Run one load in a process of its own."""
    command = [sys.executable, "-m", "tools.benchmarks.ingest_load", what, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
