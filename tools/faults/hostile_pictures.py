"""Bombs, stumps and polyglots as pictures: refused, or given back byte by byte, quickly and in little memory."""

import time

import grpc

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server.storage.sqlite import WRITER_CACHE_KIB
from tools.faults.caller import Caller
from tools.faults.fleet import Fleet, Server
from tools.faults.row import Row, Run
from tools.pictures import HOSTILE, MOST
from tools.server_process import PeakMemory

CALL_MS, RSS_GROWTH_MB = 200, 64
_WARM_UP = -(-WRITER_CACHE_KIB * 1024 // MOST) + 1  # what writes keeps so many pages of them
_TIMES = 3  # the fastest counts: what else runs on the machine is not what is measured


def run(run: Run) -> Row:
    slowest = {"store": (0.0, ""), "read": (0.0, "")}
    refused, wrong = [], []
    with Fleet() as fleet:
        server = Server(fleet, run.store())
        server.start()
        caller = server.caller()
        for _ in range(_WARM_UP):  # with what is no more than large
            (stored,) = caller.publish("before", noun.InteractionData(image=run.chosen.randbytes(MOST))).interaction_ids
            caller.image(stored)
        with PeakMemory(server.pid) as peak:
            for name, make in HOSTILE.items():
                picture = make()
                tries = []
                try:
                    for last in range(_TIMES):  # one that is stored already would cost less
                        tries.append(_store_and_read(caller, picture[:-1] + bytes([last])))
                except grpc.RpcError as error:
                    refused.append(name)
                    if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                        wrong.append(f"{name}: {error.code()}")
                except ValueError as error:
                    wrong.append(f"{name}: {error}")
                for what, seconds in zip(slowest, zip(*tries, strict=True), strict=False):
                    slowest[what] = max(slowest[what], (min(seconds) * 1000, name))
        caller.channel.close()
    row = Row("hostile-pictures", {"pictures": len(HOSTILE), "refused": len(refused)}, wrong)
    row.at_least("pictures", len(HOSTILE), 30)
    row.exactly("wrong", len(wrong), 0)
    row.exactly("refused", len(refused), 1)
    for what, (milliseconds, name) in slowest.items():
        if run.short:  # other tests use the machine too
            row.figures[f"slowest_{what}_ms"] = round(milliseconds, 1)
        else:
            row.at_most(f"slowest_{what}_ms", round(milliseconds, 1), CALL_MS)
        row.figures[f"slowest_{what}"] = name.replace(" ", "-")
    row.at_most("peak_rss_growth_mb", peak.above_before, RSS_GROWTH_MB)
    return row


def _store_and_read(caller: Caller, picture: bytes) -> tuple[float, float]:
    """The seconds that both took; ValueError when what is given back is not what was sent."""
    began = time.perf_counter()
    (stored,) = caller.publish("hostile", noun.InteractionData(image=picture)).interaction_ids
    between = time.perf_counter()
    info, given_back = caller.image(stored)
    end = time.perf_counter()
    if given_back != picture or info.size_bytes != len(picture):
        raise ValueError("what is given back is not what was sent")
    return between - began, end - between
