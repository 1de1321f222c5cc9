"""A third server comes to two that share a port, and goes again: each gets its share of the calls, and none fails."""

import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import grpc

from reflexio.status import error_from_rpc
from reflexio.v1 import interaction_service_pb2 as pb
from tools.chroma_run import free_port
from tools.faults.caller import Caller
from tools.faults.fleet import Fleet, Server
from tools.faults.row import OF_POSTGRES, Row, Run

CONNECTIONS = 120  # a system hands them out by chance: a share of a third scatters by 4 percent
AGE_SECONDS, SHORT_AGE_SECONDS = 10.0, 4.0
LEAST_SHARE = 0.2
_MARGIN_SECONDS = 10.0
_MEASURED_SECONDS = 10.0
_THREADS = 8
_PAUSE = 0.02
_TRIES, _BETWEEN_TRIES = 3, 0.2
_COUNT = "reflexio_rpc_duration_seconds_count{"


@dataclass(slots=True)
class Load:
    """Calls over each of the connections in turn, until it is over."""

    address: str
    api_key: str
    over: threading.Event = field(default_factory=threading.Event)
    codes: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self) -> None:
        callers = [Caller(self.address, self.api_key) for _ in range(CONNECTIONS // _THREADS)]
        codes = Counter[str]()
        turn = 0
        while not self.over.wait(_PAUSE):
            turn += 1
            caller = callers[turn % len(callers)]
            codes[_called(caller)] += 1
        for caller in callers:
            caller.channel.close()
        with self._lock:
            self.codes += codes


def _called(caller: Caller) -> str:
    """What came of a call, which is tried again as all clients do, after the time that a server that ends tells."""
    code = ""
    for _ in range(_TRIES):
        try:
            asked = pb.GetInteractionsRequest(user_id="u", page_size=1)
            caller.interactions.GetInteractions(asked, metadata=caller.metadata, timeout=60)
        except grpc.RpcError as error:
            told = error_from_rpc(error, "a server", 60)
            code = told.code
        else:
            return "OK"
        if code != "UNAVAILABLE":
            break
        time.sleep(told.retry_after or _BETWEEN_TRIES)
    return code


def run(run: Run, plant: str = "") -> Row:
    """By connections that end at a certain age, and come back to whichever server the system chooses."""
    if run.cluster is None:
        return Row("balance", {}, skipped=OF_POSTGRES)
    age = SHORT_AGE_SECONDS if run.short else AGE_SECONDS
    row = Row("balance", {"connections": CONNECTIONS})
    with Fleet() as fleet:
        store = run.store()
        arguments = ["--no-indexing", "--share-port", "--max-connection-age-grace-seconds", "10"]
        arguments += [] if plant else ["--max-connection-age-seconds", str(age)]
        ports = [free_port() for _ in range(3)]
        servers = [Server(fleet, store, "", (*arguments, "--metrics-port", str(ports[0])))]
        for number in (1, 2):
            of_its_own = (*arguments, "--metrics-port", str(ports[number]))
            beside = store.beside(f"data-{number}")
            servers.append(Server(fleet, beside, "", of_its_own, api_key=servers[0].api_key, port=servers[0].port))
        for server in servers[:2]:
            server.start()
        load = Load(servers[0].address, servers[0].api_key)
        threads = [threading.Thread(target=load.run, daemon=True) for _ in range(_THREADS)]
        for thread in threads:
            thread.start()
        _wait_for_calls(ports[:2])
        servers[2].start()
        time.sleep(age + _MARGIN_SECONDS)
        before = [_calls(port) for port in ports]
        time.sleep(_MEASURED_SECONDS)
        calls = [_calls(port) - had for port, had in zip(ports, before, strict=True)]
        servers[2].stop()
        time.sleep(1)
        load.over.set()
        for thread in threads:
            thread.join(60)
    row.at_least("calls", sum(calls), 1)
    row.at_least("least_share", round(min(calls) / max(1, sum(calls)), 3), LEAST_SHARE)
    row.exactly("failed", load.codes.total() - load.codes["OK"], 0)
    row.figures["codes"] = dict(load.codes)
    return row


def _calls(port: int) -> int:
    """How many calls a server has answered, as its metrics tell."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    counts = (line.rpartition(" ")[2] for line in lines if line.startswith(_COUNT) and 'GetInteractions"' in line)
    return int(sum(map(float, counts)))


def _wait_for_calls(ports: list[int]) -> None:
    deadline = time.monotonic() + 60
    while not all(map(_calls, ports)) and time.monotonic() < deadline:
        time.sleep(0.2)
