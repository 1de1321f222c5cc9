"""The connection to PostgreSQL is cut at 200 COMMITs, done or not done yet: nothing is lost, nothing stored twice."""

import random
import time

from tools.faults.commit_relay import CommitRelay
from tools.faults.fleet import Fleet, Server
from tools.faults.repeating import Repeater, calling, judge
from tools.faults.row import OF_POSTGRES, Row, Run
from tools.faults.stores import DatabaseStore

CUTS, SHORT_CUTS = 200, 20
_CALLERS = 8
_SHARE = 0.3
_LONGEST = 180.0


def run(run: Run, plant: str = "") -> Row:
    """A cut is one that the server cannot know the outcome of: it sent COMMIT, and no answer came."""
    if run.cluster is None:
        return Row("unknown-commit", {}, skipped=OF_POSTGRES)
    wanted = SHORT_CUTS if run.short else CUTS
    with CommitRelay(run.cluster.folder, random.Random(run.chosen.random())) as relay, Fleet() as fleet:
        store = DatabaseStore(run.folder / "data", run.cluster, relay.leading_to(run.cluster.new()))
        server = Server(fleet, store, plant)
        server.start()
        callers = [
            Repeater([server.address], server.api_key, f"user {number}", random.Random(run.chosen.random()))
            for number in range(_CALLERS)
        ]
        deadline = time.monotonic() + _LONGEST
        relay.share = _SHARE
        with calling(callers):
            while _unknown(relay) < wanted and time.monotonic() < deadline and not any(one.wrong for one in callers):
                time.sleep(0.05)
            relay.share = 0.0
        row = Row("unknown-commit", {})
        row.at_least("cuts", _unknown(relay), wanted)
        row.figures |= {f"commits_{way}": relay.cuts[way] for way in sorted(relay.cuts)}
        caller = server.caller()
        judge(row, callers, caller)
        caller.channel.close()
    return row


def _unknown(relay: CommitRelay) -> int:
    return relay.cuts["sent"] + relay.cuts["unanswered"]
