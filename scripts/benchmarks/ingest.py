"""Publishing, each figure beside its bound: streams beside the bare writer, unary calls beside an empty handler."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

import reflexio
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc import convert
from reflexio_server.storage import accounts
from reflexio_server.storage.database import Database
from reflexio_server.storage.rows import insert_rows, make_rows
from scripts.server_process import PASSWORD, ServerProcess, create_account

PER_REQUEST = 2  # a question and its answer
TRANSACTION_ROWS = 1000
CEILING_ROWS = 60_000
STREAM_ROWS = 120_000
STREAMS = 2
UNARY_CALLERS = 32
UNARY_SECONDS = 6.0
SPOOL_CALLS = 3_000
_STREAM = "/reflexio.v1.InteractionService/PublishInteractionStream"


def run(rows: int) -> dict[str, Any]:
    """All figures, in one run."""
    with tempfile.TemporaryDirectory() as folder:
        ceiling = _ceiling(Path(folder) / "ceiling")
        data_dir = Path(folder) / "data"
        email = create_account(data_dir)
        server = ServerProcess(data_dir, None, "--no-indexing")
        try:
            url = f"http://{server.address}/"
            with reflexio.ReflexioClient(url_endpoint=url) as client:
                key = client.login(email, PASSWORD).api_key
            stream = _stream(server.address, key)
            unary = _child("unary", server.address, key)["per_s"]
            up = _child("spool", url, key, folder)
            growth = _growth(server, url, key, rows)
        finally:
            server.terminate()
        down = _child("spool", url, key, folder)
        echo = _echo(Path(folder) / "echo")
    return {
        "stream_rows_per_s": round(stream),
        "ceiling_rows_per_s": round(ceiling),
        "stream_ratio": round(stream / ceiling, 3),
        "unary_per_s": round(unary),
        "echo_per_s": round(echo),
        "unary_ratio": round(unary / echo, 3),
        "spool_call_p50_us": {"up": up["p50"], "down": down["p50"]},
        "spool_call_p99_us": {"up": up["p99"], "down": down["p99"]},
        "rss_growth_mb": growth,
    }


def _requests(name: str, rows: int) -> Iterator[pb.PublishInteractionsRequest]:
    said = "message {} of a conversation about parcels, invoices and the weather, long enough to be lifelike"
    for number in range(rows // PER_REQUEST):
        items = [
            noun.InteractionData(role=("User", "Agent")[turn % 2], content=said.format(number * PER_REQUEST + turn))
            for turn in range(PER_REQUEST)
        ]
        yield pb.PublishInteractionsRequest(
            user_id=f"user-{number % 100}",
            request_group=f"thread-{number % 1000}",
            source="bench",
            request_id=f"{name}-{number}",
            interactions=items,
        )


def _ceiling(folder: Path) -> float:
    """Rows a second of the writer's own statements on rows that are made already."""
    folder.mkdir()
    database = Database(folder, owner=True)
    with database.write() as conn:
        accounts.add_account(conn, "ceiling@example.com", "ceiling000", "-", 0)
    requests = [(1, convert.new_request(request)) for request in _requests("ceiling", CEILING_ROWS)]
    spent = 0.0
    for start in range(0, len(requests), TRANSACTION_ROWS // PER_REQUEST):
        part = requests[start : start + TRANSACTION_ROWS // PER_REQUEST]
        with database.write() as conn:
            rows, _ = make_rows(conn, part, 0)
            began = time.perf_counter()
            insert_rows(conn, rows)
            conn.commit()
            spent += time.perf_counter() - began
    database.close()
    return CEILING_ROWS / spent


def _stream(address: str, key: str) -> float:
    """Rows a second over client streams of messages that are made already; the server does the rest."""
    shares = [
        [
            pb.PublishInteractionStreamRequest(request=request).SerializeToString()
            for request in _requests(f"stream-{number}", STREAM_ROWS // STREAMS)
        ]
        for number in range(STREAMS)
    ]
    with grpc.insecure_channel(address) as channel:
        stream: grpc.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]
        stream = channel.stream_unary(_STREAM, None, pb.PublishInteractionStreamResponse.FromString)
        metadata = (("authorization", f"Bearer {key}"),)
        began = time.perf_counter()
        calls = [stream.future(iter(share), metadata=metadata, timeout=600) for share in shares]
        stored = sum(call.result().interactions.stored for call in calls)
        spent = time.perf_counter() - began
    if stored != STREAM_ROWS:
        raise RuntimeError(f"stored {stored} of {STREAM_ROWS}")
    return STREAM_ROWS / spent


def _echo(folder: Path) -> float:
    """Calls a second of the same server, with a handler that does nothing behind its interceptors."""
    email = create_account(folder)
    server = ServerProcess(folder, None, "--no-indexing", module="scripts.benchmarks.echo_server")
    try:
        with reflexio.ReflexioClient(url_endpoint=f"http://{server.address}/") as client:
            key = client.login(email, PASSWORD).api_key
        return float(_child("unary", server.address, key)["per_s"])
    finally:
        server.terminate()


def _growth(server: ServerProcess, url: str, key: str, rows: int) -> dict[str, float]:
    """How much the memory of server and client grew over a bulk upload from a generator, in MB."""
    before = _rss(server.process.pid)
    client = _child("bulk", url, key, str(rows))["grown"]
    return {"server": round(_rss(server.process.pid) - before, 1), "client": client}


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _child(what: str, *arguments: str) -> dict[str, Any]:
    """Run one load in a process of its own."""
    command = [sys.executable, "-m", "scripts.benchmarks.ingest_load", what, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=3600)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
