"""20,000 calls that are started and cancelled: a good client beside them has no error."""

import random
import time
from collections import Counter
from typing import Any

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.crowd import CrowdedServer, GoodClient, publish
from tools.faults.row import Row, Run
from tools.server_process import PeakMemory

CALLS, SHORT_CALLS = 20_000, 4_000
CONNECTIONS = 8
MOST_MB = 256
_AT_ONCE = 200


def run(run: Run) -> Row:
    count = SHORT_CALLS if run.short else CALLS
    with CrowdedServer(run.store(), 2, "--no-indexing") as server:
        clients = [server.client(0) for _ in range(CONNECTIONS)]
        with PeakMemory(server.pid) as peak, GoodClient(server, 1) as good:
            ends: Counter[str] = Counter()
            began = time.monotonic()
            for start in range(0, count, _AT_ONCE):
                calls = [_begin(clients[n % CONNECTIONS], n, run.chosen) for n in range(start, start + _AT_ONCE)]
                for call in calls:
                    call.cancel()
                ends.update(_end(call) for call in calls)
            seconds = time.monotonic() - began
            last = _end(_begin(server.client(0), 0, run.chosen))  # grpc may have closed those that flooded it
    row = Row("cancelled-calls", {"started": count, "seconds": round(seconds, 1), "good_p99_ms": good.p99_ms})
    row.failures += [f"a good client got {error}" for error in good.errors[:3]]
    row.exactly("good_errors", len(good.errors), 0)
    row.at_least("good_calls", good.calls, 1)
    # Of the others grpc has closed the connection, or they were done.
    row.at_least("cancelled", ends["CANCELLED"], count // 4)
    row.expect(last == "OK", f"afterwards a call of the same account got {last}")
    row.at_most("rss_mb", peak.above_before, MOST_MB)
    return row


def _begin(client: Caller, number: int, chosen: random.Random) -> Any:
    kind: Any = chosen.choice(("get", "search", "publish"))
    if kind == "get":
        request: Any = pb.GetInteractionsRequest(user_id="good")
        return client.interactions.GetInteractions.future(request, metadata=client.metadata, timeout=60)
    if kind == "search":
        request = pb.SearchInteractionsRequest(user_id="good", query="anything")
        return client.interactions.SearchInteractions.future(request, metadata=client.metadata, timeout=60)
    return client.interactions.PublishInteractions.future(
        publish(f"cancelled {number}"), metadata=client.metadata, timeout=60
    )


def _end(call: Any) -> str:
    try:
        call.result(60)
    except grpc.FutureCancelledError:
        return "CANCELLED"
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
