"""Bombs, stumps and polyglots as pictures: refused, or given back byte by byte, quickly and in little memory."""

import time

import grpc

from reflexio.v1 import interaction_pb2 as noun
from scripts.fault_runs.caller import Caller
from scripts.fault_runs.fleet import Fleet, Server
from scripts.fault_runs.row import Row, Run
from scripts.pictures import HOSTILE, MOST

CALL_MS, RSS_GROWTH_MB = 200, 64
_WARM_UP = 5
_TIMES = 3  # the fastest counts: what else runs on the machine is not what is measured


def run(run: Run) -> Row:
    slowest = {"store": (0.0, ""), "read": (0.0, "")}
    refused, wrong = [], []
    with Fleet() as fleet:
        server = Server(fleet, run.folder, run.chosen)
        server.start()
        caller = Caller(server)
        for _ in range(_WARM_UP):  # with what is no more than large
            (stored,) = caller.publish("before", noun.InteractionData(image=run.chosen.randbytes(MOST))).interaction_ids
            caller.image(stored)
        server.forget_peak()
        before = server.rss_mb()
        for name, make in HOSTILE.items():
            picture = make()
            spent: dict[str, list[float]] = {"store": [], "read": []}
            for last in range(_TIMES):
                picture = picture[:-1] + bytes([last])  # one that is stored already would cost less
                began = time.perf_counter()
                try:
                    (stored,) = caller.publish("hostile", noun.InteractionData(image=picture)).interaction_ids
                except grpc.RpcError as error:
                    refused.append(name)
                    if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                        wrong.append(f"{name}: {error.code()}")
                    break
                between = time.perf_counter()
                info, given_back = caller.image(stored)
                spent["store"].append(between - began)
                spent["read"].append(time.perf_counter() - between)
                if given_back != picture or info.size_bytes != len(picture):
                    wrong.append(f"{name}: what is given back is not what was sent")
            for what, times in spent.items():
                slowest[what] = max(slowest[what], (min(times, default=0) * 1000, name))
        growth = server.peak_rss_mb() - before
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
    row.at_most("peak_rss_growth_mb", round(growth, 1), RSS_GROWTH_MB)
    return row
