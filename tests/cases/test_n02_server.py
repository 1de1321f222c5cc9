"""N2 and F15, the server's side: its default places fit one busy account, whose calls wait for their turn."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc
from tests.support import Caller, LocalServer, failure_of
from tests.wire import blocked_writer, metric, say, wait_until

Start = Callable[..., LocalServer]


class OwnConnection(Caller):
    """A caller whose connection is new, and nobody else's: channels to the same address share one by default."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller.address, caller.email, caller.api_key)
        self.channel = grpc.insecure_channel(caller.address, options=[("grpc.use_local_subchannel_pool", 1)])
        self.interactions = pb_grpc.InteractionServiceStub(self.channel)


def outcomes(calls: list[Any]) -> Counter[str]:
    """How calls ended; each refusal must be one that says when to come again."""
    counted: Counter[str] = Counter()
    for call in calls:
        error = call.exception(60)
        if error is None:
            counted["ok"] += 1
            continue
        found = failure_of(error)
        if "RST_STREAM with error code 7" in found.text:  # REFUSED_STREAM: nobody has seen the call
            counted["not seen"] += 1
            continue
        assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED, found
        assert found.retry_seconds, found
        counted["refused"] += 1
    return counted


def test_a_connection_full_of_calls_is_not_refused(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    caller.publish("u", "hello")
    search = pb.SearchInteractionsRequest(user_id="u", query="hello")
    searches = [
        caller.interactions.SearchInteractions.future(search, metadata=caller.metadata, timeout=60) for _ in range(100)
    ]
    assert outcomes(searches) == {"ok": 100}
    publishes = []
    for number in range(100):
        request = say(str(number))
        request.wait_until = pb.WAIT_UNTIL_SEARCHABLE
        publishes.append(caller.interactions.PublishInteractions.future(request, metadata=caller.metadata, timeout=60))
    assert outcomes(publishes) == {"ok": 100}


def test_500_searches_on_a_new_connection_are_answered_or_not_begun(start: Start) -> None:
    """They are sent before the connection's first answer says how many it takes at a time.

    Our clients make 100 at once, and repeat what nobody has seen.
    """
    server = start()
    known = server.new_caller()
    known.publish("u", "hello")
    search = pb.SearchInteractionsRequest(user_id="u", query="hello")
    for _ in range(3):
        caller = OwnConnection(known)
        calls = [
            caller.interactions.SearchInteractions.future(search, metadata=caller.metadata, timeout=60)
            for _ in range(500)
        ]
        counted = outcomes(calls)
        assert counted.total() == 500
        assert counted["ok"] >= 100
        caller.channel.close()


def test_others_find_a_place_beside_a_busy_account(start: Start) -> None:
    server = start(metrics_port=0)
    greedy, other = server.new_caller(), OwnConnection(server.new_caller())
    other.publish("u", "hello", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    with blocked_writer(server):
        calls = [
            greedy.interactions.PublishInteractions.future(say(str(number)), metadata=greedy.metadata, timeout=60)
            for number in range(100)
        ]
        wait_until(lambda: (metric(server, "reflexio_rpcs_in_flight", "unary") or 0) >= 32, "its share to be at work")
        search = pb.SearchInteractionsRequest(user_id="u", query="hello")
        reads = [
            other.interactions.SearchInteractions.future(search, metadata=other.metadata, timeout=5) for _ in range(30)
        ]
        assert outcomes(reads) == {"ok": 30}, "while all of the other's wait for the writer"
    assert outcomes(calls) == {"ok": 100}
