"""SIGTERM with 50 calls and a stream in flight: all finish, the stream ends with its verdict, nothing is lost."""

import signal
import time

import grpc

from tools.faults.crowd import CrowdedServer, Stream, publish
from tools.faults.row import Row, Run
from tools.faults.stores import Store

CALLS = 50
STREAMED = 10
_ARRIVE_SECONDS = 2.5


def run(run: Run) -> Row:
    with CrowdedServer(run.store(), 2, "--grace-seconds", "60", "--no-indexing") as server:
        clients = [server.client(account) for account in range(2)]
        stream = Stream(clients[0], *(publish(f"streamed {number}") for number in range(STREAMED)))
        while len(_stored(server.store)) < STREAMED:
            time.sleep(0.01)
        with server.store.stalled():
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
        stored = _stored(server.store)
    row = Row("graceful-stop", {"calls": CALLS, "stream_end": end_reason, "stop_s": round(seconds, 1)})
    row.exactly("in_flight", in_flight, CALLS)
    row.exactly("finished", len(acknowledged), CALLS)
    row.expect(end_reason == "DRAINING", f"the stream ended with {end_reason}")
    row.exactly("streamed", streamed, STREAMED)
    row.exactly("lost", len(acknowledged - stored) + max(0, CALLS + STREAMED - len(stored)), 0)
    row.exactly("exit_code", exit_code, 0)
    return row


def _stored(store: Store) -> set[str]:
    return {interaction_id for (interaction_id,) in store.rows("SELECT interaction_id FROM interactions")}
