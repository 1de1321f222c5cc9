"""160 streams of 900 kB messages, over slow lines or to a server that cannot write: they take little of its memory."""

import time
from collections import Counter

from tools.faults.crowd import CrowdedServer, Stream, publish, slow_links
from tools.faults.row import Row, Run
from tools.server_process import PeakMemory

STREAMS, MESSAGE_BYTES = 160, 900_000
MOST_MB = 256
MOST_OPEN_MB = 384  # with places for all of them: each takes its message while it comes, and once more at its end
_OPEN_TO_ALL = ("--workers", "200", "--max-streams", "180", "--account-streams", "180", "--no-indexing")


def run(run: Run) -> Row:
    row = Row("slow-streams", {"streams": STREAMS})
    seconds = 8 if run.short else 20
    for name, arguments, most in (("slow", ("--no-indexing",), MOST_MB), ("open", _OPEN_TO_ALL, MOST_OPEN_MB)):
        with (
            CrowdedServer(run.store(name), 4, *arguments) as server,
            slow_links(server.address, MESSAGE_BYTES // seconds) as address,
            PeakMemory(server.pid) as peak,
        ):
            streams = []
            for number in range(STREAMS):
                image = number.to_bytes(2, "big") * (MESSAGE_BYTES // 2)
                streams.append(Stream(server.client(number, address), publish(str(number), image=image)))
                streams[-1].close()
            outcomes = [stream.outcome() for stream in streams]
        _add(row, name, outcomes, 1, peak.above_before, most)
    row.exactly("open_taken", row.figures["open_taken"], STREAMS)
    with CrowdedServer(run.store("blocked"), 4, "--no-indexing") as server:
        with PeakMemory(server.pid) as peak:
            with server.store.stalled():
                streams = []
                for number in range(STREAMS):
                    image = number.to_bytes(2, "big") * (MESSAGE_BYTES // 2)
                    requests = [publish(f"{number} {part}", image=image) for part in range(4)]
                    streams.append(Stream(server.client(number), *requests))
                    streams[-1].close()
                time.sleep(3 if run.short else 5)
            outcomes = [stream.outcome() for stream in streams]
        _add(row, "blocked", outcomes, 4, peak.above_before, MOST_MB)
    return row


def _add(row: Row, name: str, outcomes: list[tuple[str, int]], each: int, megabytes: float, most: int) -> None:
    ends = Counter(end for end, _ in outcomes)
    taken, refused = ends["COMPLETE"], ends["RESOURCE_EXHAUSTED"]
    row.figures |= {f"{name}_taken": taken, f"{name}_refused": refused}
    row.at_most(f"{name}_rss_mb", megabytes, most)
    row.expect(taken > 0 and taken + refused == STREAMS, f"{name}: streams ended with {dict(ends)}")
    row.expect(sum(stored for _, stored in outcomes) == each * taken, f"{name}: a stream was not stored whole")
