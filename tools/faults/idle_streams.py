"""200 streams that send nothing: unary calls beside them are as quick as ever, and all of the streams are ended."""

import time
from collections import Counter

from tools.faults.crowd import CrowdedServer, GoodClient, Stream
from tools.faults.row import Row, Run
from tools.server_process import PeakMemory

STREAMS = 200
P99_MS = 50.0
_OPEN_TO_ALL = ("--workers", "240", "--max-streams", "220", "--account-streams", "220")


def run(run: Run) -> Row:
    """With places for all of them, and with those that there are by default."""
    row = Row("idle-streams", {"streams": STREAMS})
    # On a busy machine it only shows that nothing waits for the streams; the short form is a test.
    bound = 10 * P99_MS if run.short else P99_MS
    for name, places in (("open", _OPEN_TO_ALL), ("default", ())):
        seconds = "4" if run.short else "10"
        with CrowdedServer(run.store(name), 5, "--stream-idle-seconds", seconds, "--no-indexing", *places) as server:
            with GoodClient(server, 4) as quiet:
                time.sleep(2 if run.short else 5)
            clients = [server.client(number) for number in range(5)]
            with PeakMemory(server.pid) as peak, GoodClient(server, 4) as good:
                streams = [Stream(clients[number % 5]) for number in range(STREAMS)]
                outcomes = Counter(stream.outcome()[0] for stream in streams)
            timed_out, refused = outcomes["IDLE"], outcomes["RESOURCE_EXHAUSTED"]
        row.figures |= {
            f"{name}_timed_out": timed_out,
            f"{name}_refused": refused,
            f"{name}_quiet_p99_ms": quiet.p99_ms,
            f"{name}_unary_calls": good.calls,
            f"{name}_rss_mb": peak.above_before,
        }
        row.expect(timed_out + refused == STREAMS, f"{name}: streams ended with {dict(outcomes)}")
        if name == "open":
            row.exactly("open_timed_out", timed_out, STREAMS)
        row.failures += [f"{name}: a good client got {error}" for error in good.errors[:3]]
        row.exactly(f"{name}_unary_errors", len(good.errors), 0)
        row.at_most(f"{name}_unary_p99_ms", good.p99_ms, bound)
    return row
