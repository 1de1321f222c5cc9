"""What one server has acknowledged, a search at another one finds: 5,000 times, in turns."""

import threading
import time

from reflexio.v1 import interaction_pb2 as noun
from tools.faults.caller import Caller
from tools.faults.fleet import QUICK_EMBEDDER, Fleet, Server
from tools.faults.row import OF_POSTGRES, Row, Run

SEARCHES, SHORT_SEARCHES = 5_000, 200
_THREADS = 4
_EACH_USER = 50  # texts of a user
_LONGEST = 600.0


class Looker(threading.Thread):
    """Publishes at one server and searches at the other, which change places each time."""

    def __init__(self, number: int, callers: list[Caller], count: int) -> None:
        super().__init__(daemon=True)
        self.asked = self.seen = 0
        self._number, self._callers, self._count = number, callers, count

    def run(self) -> None:
        deadline = time.monotonic() + _LONGEST
        while self.asked < self._count and time.monotonic() < deadline:
            here, there = self._callers if self.asked % 2 else reversed(self._callers)
            user = f"user {self._number} {self.asked // _EACH_USER}"
            text = f"parcel {self._number} {self.asked}"
            (published,) = here.publish(user, noun.InteractionData(content=text)).interaction_ids
            found = there.search(user_id=user, query=text, top_k=_EACH_USER)
            self.asked += 1
            self.seen += any(hit.interaction.interaction_id == published for hit in found.hits)


def run(run: Run, plant: str = "") -> Row:
    """Each text has to be made comparable before it is found, by whichever server is first."""
    if run.cluster is None:
        return Row("freshness", {}, skipped=OF_POSTGRES)
    count = SHORT_SEARCHES if run.short else SEARCHES
    store = run.store()
    with Fleet() as fleet:
        first = Server(fleet, store, plant, arguments=QUICK_EMBEDDER)
        second = Server(fleet, store.beside("data-2"), plant, arguments=QUICK_EMBEDDER, api_key=first.api_key)
        for server in (first, second):
            server.start()
        callers = [first.caller(), second.caller()]
        lookers = [Looker(number, callers, count // _THREADS) for number in range(_THREADS)]
        for looker in lookers:
            looker.start()
        for looker in lookers:
            looker.join(2 * _LONGEST)
        for caller in callers:
            caller.channel.close()
    row = Row("freshness", {})
    asked = sum(looker.asked for looker in lookers)
    row.at_least("searches", asked, count)
    row.exactly("not_seen", asked - sum(looker.seen for looker in lookers), 0)
    return row
