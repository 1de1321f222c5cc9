"""160 streams of 900 kB messages, over slow lines or to a server that cannot write: they take little of its memory."""

import sqlite3
import time
from collections import Counter
from contextlib import closing

from reflexio_server.storage.database import DATABASE_FILE
from scripts.fault_runs.crowd import CrowdedServer, Peak, Stream, publish, slow_links
from scripts.fault_runs.row import Row, Run

STREAMS, MESSAGE_BYTES = 160, 900_000
MOST_MB = 256
_OPEN_TO_ALL = ("--workers", "200", "--max-streams", "180", "--account-streams", "180", "--no-indexing")


def run(run: Run) -> Row:
    row = Row("slow-streams", {"streams": STREAMS})
    seconds = 8 if run.short else 20
    with CrowdedServer(run.folder / "open", 1, *_OPEN_TO_ALL) as server:
        with slow_links(server.address, MESSAGE_BYTES // seconds) as address, Peak(server) as peak:
            streams = []
            for number in range(STREAMS):
                image = number.to_bytes(2, "big") * (MESSAGE_BYTES // 2)
                streams.append(Stream(server.client(0, address), publish(str(number), image=image)))
                streams[-1].close()
            stored = sum(stream.outcome()[1] for stream in streams)
        row.exactly("slow_stored", stored, STREAMS)
        row.at_most("slow_rss_mb", peak.above_idle, MOST_MB)
    with CrowdedServer(run.folder / "default", 4, "--no-indexing") as server:
        with closing(sqlite3.connect(server.data_dir / DATABASE_FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # the server waits as behind a slow disk, for less than 10 seconds
            with Peak(server) as peak:
                streams = []
                for number in range(STREAMS):
                    image = number.to_bytes(2, "big") * (MESSAGE_BYTES // 2)
                    requests = [publish(f"{number} {part}", image=image) for part in range(4)]
                    streams.append(Stream(server.client(number), *requests))
                    streams[-1].close()
                time.sleep(3 if run.short else 5)
                other.execute("ROLLBACK")
                outcomes = [stream.outcome() for stream in streams]
        ends = Counter(end for end, _ in outcomes)
        row.figures |= {"blocked_taken": ends["COMPLETE"], "blocked_refused": ends["RESOURCE_EXHAUSTED"]}
        row.expect(ends["COMPLETE"] + ends["RESOURCE_EXHAUSTED"] == STREAMS, f"streams ended with {dict(ends)}")
        row.expect(sum(stored for _, stored in outcomes) == 4 * ends["COMPLETE"], "a stream was not stored whole")
        row.at_most("blocked_rss_mb", peak.above_idle, MOST_MB)
    return row
