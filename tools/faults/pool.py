"""200 callers, 8 connections, and a PostgreSQL that answers nothing for 5 s: all are answered, or refused soon."""

import threading
import time
from collections import Counter

import grpc
import psycopg

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.crowd import publish
from tools.faults.fleet import Fleet, Server
from tools.faults.row import OF_POSTGRES, Row, Run

CALLERS, CONNECTIONS, STALLED_SECONDS = 200, 8, 5.0
REFUSED_SECONDS, SHORT_REFUSED_SECONDS = 2.5, 10.0  # the short form is a test, beside other programs
HUNG_SECONDS = 30.0
_CHANNELS = 8
_PLACES = ("--workers", "240", "--account-calls", "230", "--no-indexing", "--database-connections", str(CONNECTIONS))
_REFUSALS = {"RESOURCE_EXHAUSTED", "UNAVAILABLE"}


def run(run: Run, plant: str = "") -> Row:
    """Who waits for a row that is locked is answered in the end; who finds no connection is refused."""
    if run.cluster is None:
        return Row("pool", {}, skipped=OF_POSTGRES)
    told: list[tuple[str, float]] = []
    over = threading.Event()
    with Fleet() as fleet:
        server = Server(fleet, run.store(), plant, arguments=_PLACES)
        server.start()
        clients = [server.caller() for _ in range(_CHANNELS)]
        clients[0].publish("good", noun.InteractionData(content="before"))
        threads = [
            threading.Thread(target=_call, args=(clients[number % _CHANNELS], number, over, told), daemon=True)
            for number in range(CALLERS)
        ]
        assert server.store.url
        with psycopg.connect(server.store.url) as other:
            other.execute("LOCK TABLE interactions, requests IN ACCESS EXCLUSIVE MODE")
            for thread in threads:
                thread.start()
            time.sleep(STALLED_SECONDS)
            over.set()
            other.rollback()
        for thread in threads:
            thread.join(2 * HUNG_SECONDS)
        afterwards = clients[0].publish("good", noun.InteractionData(content="afterwards"))
        for client in clients:
            client.channel.close()
    codes = Counter(code for code, _ in told)
    refused = [seconds for code, seconds in told if code in _REFUSALS]
    row = Row("pool", {"calls": len(told), "answered": codes["OK"]})
    row.at_least("refused", len(refused), 1)
    row.exactly("hung", sum(seconds > HUNG_SECONDS for _, seconds in told) + sum(t.is_alive() for t in threads), 0)
    row.exactly("other_codes", len(told) - codes["OK"] - len(refused), 0)
    longest = SHORT_REFUSED_SECONDS if run.short else REFUSED_SECONDS
    row.at_most("slowest_refusal_s", round(max(refused, default=0.0), 2), longest)
    row.expect(len(afterwards.interaction_ids) == 1, "nothing could be stored afterwards")
    row.figures["codes"] = dict(codes)
    return row


def _call(client: Caller, number: int, over: threading.Event, told: list[tuple[str, float]]) -> None:
    """Read, or store at every fourth place, again and again; what came of each call, and after how many seconds."""
    turn = 0
    while not over.is_set():
        turn += 1
        began = time.monotonic()
        try:
            if number % 4:
                asked = pb.GetInteractionsRequest(user_id="good", page_size=10)
                client.interactions.GetInteractions(asked, metadata=client.metadata, timeout=2 * HUNG_SECONDS)
            else:
                one = publish(f"{number} {turn}")
                client.interactions.PublishInteractions(one, metadata=client.metadata, timeout=2 * HUNG_SECONDS)
            code = "OK"
        except grpc.RpcError as error:
            code = error.code().name
        told.append((code, time.monotonic() - began))
        over.wait(0.05)
