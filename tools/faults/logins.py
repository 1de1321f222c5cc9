"""Logins under attack: what their time tells, whom throttling locks out, and what a flood costs publishing."""

import random
import statistics
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.fleet import EMAIL, Fleet, Server
from tools.faults.row import Row, Run
from tools.relay import Relay
from tools.server_process import PASSWORD

TRIES, SHORT_TRIES = 1000, 60
WRONG_TRIES, ATTACKERS = 200, 4
ROUNDS, SHORT_ROUNDS, ROUND_SECONDS = 6, 2, 3.0
FLOOD_PER_SECOND, FLOOD_ADDRESSES = 100, 8  # at 20 ms each, checking them all would take 2 cores
_PAUSE = 0.005  # between two publishes


def time_auc(known: Sequence[float], unknown: Sequence[float]) -> float:
    """The chance that a try at a known account takes longer than one at an unknown; 0.5 tells nothing."""
    order = sorted(unknown)
    below = sum(bisect_left(order, one) + bisect_right(order, one) for one in known)
    return below / 2 / (len(known) * len(unknown))


def login_times(address: str, email: str, count: int, chosen: random.Random) -> tuple[list[float], list[float]]:
    """Seconds that `count` wrong tries each take at a known and at an unknown account, in random order."""
    times: tuple[list[float], list[float]] = ([], [])
    order = [0, 1] * count
    chosen.shuffle(order)
    with grpc.insecure_channel(address) as channel:
        stub = auth_grpc.AuthServiceStub(channel)
        for unknown in order:
            tried = f"{chosen.getrandbits(40):010x}@example.com" if unknown else email
            began = time.perf_counter()
            code = _try(stub, tried)
            times[unknown].append(time.perf_counter() - began)
            if code is not grpc.StatusCode.UNAUTHENTICATED:
                raise RuntimeError(f"a wrong try was answered with {code}")
    return times


def timing(run: Run) -> Row:
    """The same answer after the same time, whether there is such an account or not."""
    count = SHORT_TRIES if run.short else TRIES
    with Fleet() as fleet:
        unbounded = ("--no-indexing", "--login-tries", "100000", "--login-tries-per-address", "100000")
        server = Server(fleet, run.store(), arguments=unbounded)
        server.start()
        known, unknown = login_times(server.address, EMAIL, count, run.chosen)
    auc = time_auc(known, unknown)
    # In the long form 0.05 is 4 standard errors of equal distributions; fewer tries err by more.
    margin = 0.05 if not run.short else 4 * (1 / 6 / count) ** 0.5
    row = Row("login-timing", {"tries_each": count})
    row.figures |= {f"{name}_p50_ms": _ms(statistics.median(times)) for name, times in _named(known, unknown)}
    row.between("auc", round(auc, 3), round(0.5 - margin, 3), round(0.5 + margin, 3))
    return row


def throttle(run: Run) -> Row:
    """Wrong tries from one address; the owner logs in from another, again and again."""
    codes: Counter[str] = Counter()
    owner: list[float] = []
    with Fleet() as fleet:
        server = Server(fleet, run.store())
        server.start()
        with Relay(server.address, source="127.0.0.2") as elsewhere, ThreadPoolExecutor(ATTACKERS) as pool:
            attacks = [pool.submit(_attack, server.address, WRONG_TRIES // ATTACKERS) for _ in range(ATTACKERS)]
            while not owner or not all(attack.done() for attack in attacks):
                owner.append(_owner_logs_in(elsewhere.address))
            for attack in attacks:
                codes += attack.result()
            owner += [_owner_logs_in(elsewhere.address) for _ in range(5)]
        with grpc.insecure_channel(server.address) as channel:
            here = _try(auth_grpc.AuthServiceStub(channel), EMAIL, PASSWORD)
    row = Row("login-throttle", {"tries": codes.total()})
    row.at_most("refused", codes["UNAUTHENTICATED"], 11)  # so many passwords could be tried
    row.figures |= {"throttled": codes["RESOURCE_EXHAUSTED"], "owner_logins": len(owner)}
    row.expect(codes["UNAUTHENTICATED"] + codes["RESOURCE_EXHAUSTED"] == WRONG_TRIES, f"answers were {dict(codes)}")
    row.expect(here is grpc.StatusCode.RESOURCE_EXHAUSTED, f"where the tries came from a login was answered {here}")
    row.at_most("owner_s", round(max(owner), 3), 1.0)
    return row


def flood(run: Run) -> Row:
    """Publishing beside a flood of logins from several addresses, in turn with publishing alone."""
    rounds = SHORT_ROUNDS if run.short else ROUNDS
    quiet: list[float] = []
    flooded: list[float] = []
    with Fleet() as fleet:
        server = Server(fleet, run.store())
        server.start()
        arguments = (server.address, str(FLOOD_PER_SECOND), str(FLOOD_ADDRESSES), str(run.folder / "answers"))
        flooder = fleet.start("login_flood", *arguments, log=run.folder / "log")
        assert flooder.stdin
        caller = server.caller()
        with caller.channel:
            _publish(caller, ROUND_SECONDS)  # warms up
            for _ in range(rounds):
                quiet += _publish(caller, ROUND_SECONDS)
                flooder.stdin.write(b"+")
                flooder.stdin.flush()
                flooded += _publish(caller, ROUND_SECONDS)
                flooder.stdin.write(b"-")
                flooder.stdin.flush()
                time.sleep(1.0)  # what is on its way arrives
        flooder.stdin.close()
        flooder.wait(30)
    answers = Counter((run.folder / "answers").read_text().split())
    p99 = [_p99(quiet), _p99(flooded)]
    ratio = p99[1] / p99[0]
    row = Row("login-flood", {"logins": answers.total(), "refused": answers["UNAUTHENTICATED"]})
    row.figures |= {"throttled": answers["RESOURCE_EXHAUSTED"], "publishes": len(quiet) + len(flooded)}
    row.figures |= {
        f"{name}_p50_ms": _ms(statistics.median(times)) for name, times in zip(_STATES, (quiet, flooded), strict=True)
    }
    row.figures |= {f"{name}_p99_ms": _ms(value) for name, value in zip(_STATES, p99, strict=True)}
    wanted = rounds * ROUND_SECONDS * FLOOD_PER_SECOND
    row.expect(answers.total() >= wanted / 4, f"the flood was of {answers.total()} logins, not of {wanted:.0f}")
    most = 8.0 if run.short else 2.0  # a few seconds on a busy machine say little
    row.at_most("ratio", round(ratio, 2), most)
    return row


_STATES = ("quiet", "flood")


def _named(known: list[float], unknown: list[float]) -> tuple[tuple[str, list[float]], ...]:
    return ("known", known), ("unknown", unknown)


def _try(stub: auth_grpc.AuthServiceStub, email: str, password: str = "not the password") -> grpc.StatusCode:
    try:
        stub.Login(auth_pb.LoginRequest(email=email, password=password), timeout=30)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def _attack(address: str, count: int) -> Counter[str]:
    with grpc.insecure_channel(address) as channel:
        stub = auth_grpc.AuthServiceStub(channel)
        return Counter(_try(stub, EMAIL).name for _ in range(count))


def _owner_logs_in(address: str) -> float:
    began = time.perf_counter()
    with grpc.insecure_channel(address) as channel:
        code = _try(auth_grpc.AuthServiceStub(channel), EMAIL, PASSWORD)
    if code is not grpc.StatusCode.OK:
        raise RuntimeError(f"the owner's login elsewhere was answered with {code}")
    return time.perf_counter() - began


def _publish(caller: Caller, seconds: float) -> list[float]:
    """Seconds of each publish, one after the other with a pause, for so long."""
    request = pb.PublishInteractionsRequest(user_id="u", interactions=[noun.InteractionData(content="a message")])
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        caller.interactions.PublishInteractions(request, metadata=caller.metadata, timeout=30)
        times.append(time.perf_counter() - began)
        threading.Event().wait(_PAUSE)
    return times


def _p99(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)
