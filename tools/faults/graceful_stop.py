"""SIGTERM with 50 calls and a stream in flight: all finish, the stream ends with its verdict, nothing is lost."""

import signal
import sqlite3
import time
from contextlib import closing

import grpc

from reflexio_server.storage.database import DATABASE_FILE
from tools.faults.crowd import CrowdedServer, Stream, publish
from tools.faults.row import Row, Run

CALLS = 50
STREAMED = 10
_ARRIVE_SECONDS = 2.5


def run(run: Run) -> Row:
    with CrowdedServer(run.folder / "data", 2, "--grace-seconds", "60", "--no-indexing") as server:
        clients = [server.client(account) for account in range(2)]
        with closing(sqlite3.connect(server.data_dir / DATABASE_FILE, isolation_level=None)) as other:
            stream = Stream(clients[0], *(publish(f"streamed {number}") for number in range(STREAMED)))
            while _count(other) < STREAMED:
                time.sleep(0.01)
            other.execute("BEGIN IMMEDIATE")  # as a slow disk: until the ROLLBACK nothing can be answered
            calls = [
                client.interactions.PublishInteractions.future(publish(f"{n}"), metadata=client.metadata, timeout=120)
                for n in range(CALLS)
                for client in [clients[n % 2]]
            ]
            time.sleep(_ARRIVE_SECONDS)
            in_flight = sum(not call.done() for call in calls)
            began = time.monotonic()
            server.process.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            other.execute("ROLLBACK")
        outcomes = []
        for call in calls:
            try:
                outcomes.append(call.result(120).interaction_ids[0])
            except grpc.RpcError:
                outcomes.append("")
        end_reason, streamed = stream.outcome()
        exit_code = server.process.wait()
        seconds = time.monotonic() - began
        acknowledged = {interaction_id for interaction_id in outcomes if interaction_id}
        with closing(sqlite3.connect(server.data_dir / DATABASE_FILE)) as conn:
            stored = {row[0] for row in conn.execute("SELECT interaction_id FROM interactions")}
    row = Row("graceful-stop", {"calls": CALLS, "stream_end": end_reason, "stop_s": round(seconds, 1)})
    row.exactly("in_flight", in_flight, CALLS)
    row.exactly("finished", len(acknowledged), CALLS)
    row.expect(end_reason == "DRAINING", f"the stream ended with {end_reason}")
    row.exactly("streamed", streamed, STREAMED)
    row.exactly("lost", len(acknowledged - stored) + max(0, CALLS + STREAMED - len(stored)), 0)
    row.exactly("exit_code", exit_code, 0)
    return row


def _count(conn: sqlite3.Connection) -> int:
    return int(conn.execute("SELECT count(*) FROM interactions").fetchone()[0])
