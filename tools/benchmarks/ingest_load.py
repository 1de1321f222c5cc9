"""The callers of the ingest benchmark, each in a process of its own; prints one JSON object."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

import reflexio
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio.v1 import interaction_service_pb2_grpc as pb_grpc
from tools.benchmarks.ingest import SPOOL_CALLS, UNARY_CALLERS, UNARY_SECONDS
from tools.server_process import rss_mb


def unary(address: str, key: str, seconds: float = UNARY_SECONDS) -> dict[str, Any]:
    """Publishes a second of concurrent callers, one interaction each."""
    metadata = (("authorization", f"Bearer {key}"),)
    counts = [0] * UNARY_CALLERS
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.InteractionServiceStub(channel)
        end = time.perf_counter() + seconds

        def call(number: int) -> None:
            item = noun.InteractionData(content="a question about a parcel that has not arrived yet")
            while time.perf_counter() < end:
                request = pb.PublishInteractionsRequest(
                    user_id=f"user-{number}", interactions=[item], request_id=f"{time.time_ns()}-{number}"
                )
                stub.PublishInteractions(request, metadata=metadata, timeout=60)
                counts[number] += 1

        threads = [threading.Thread(target=call, args=(number,)) for number in range(UNARY_CALLERS)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"per_s": sum(counts) / (time.perf_counter() - began)}


def spool(url: str, key: str, folder: str) -> dict[str, Any]:
    """What a publish that does not wait costs its caller, in microseconds."""
    turn = [{"role": "User", "content": "a question about a parcel that has not arrived yet"}]
    figures = {}
    for name, pause in (("", 0.0), ("paced_", 0.001)):
        spent: list[int] = []
        client = reflexio.ReflexioClient(key, url, spool_dir=Path(folder) / f"{name}spool")
        for _ in range(SPOOL_CALLS):
            began = time.perf_counter_ns()
            client.publish_interaction("ada", turn, source="bench", request_group="thread")
            spent.append(time.perf_counter_ns() - began)
            if pause:  # the processor has done something else, and its caches hold that
                time.sleep(pause)
        client.close(0)
        spent.sort()
        figures[f"{name}p50"] = round(spent[len(spent) // 2] / 1000, 1)
        figures[f"{name}p99"] = round(spent[len(spent) * 99 // 100] / 1000, 1)
    return figures


def bulk(url: str, key: str, rows: str) -> dict[str, Any]:
    """How much this process grew over an upload from a generator, in MB."""

    def requests(name: str, count: int) -> Any:
        for number in range(count // 10):
            items = [{"content": f"small interaction {number}"}] * 10
            yield {"user_id": f"user-{number % 1000}", "interactions": items, "request_id": f"{name}-{number}"}

    client = reflexio.ReflexioClient(key, url)
    client.publish_many(requests("warm", 20_000))
    before = rss_mb(os.getpid())
    result = client.publish_many(requests("bulk", int(rows)))
    if result.interactions.stored != int(rows):
        raise RuntimeError(f"stored {result.interactions.stored} of {rows}")
    return {"grown": round(rss_mb(os.getpid()) - before, 1)}


if __name__ == "__main__":
    loads: dict[str, Callable[..., dict[str, Any]]] = {"unary": unary, "spool": spool, "bulk": bulk}
    print(json.dumps(loads[sys.argv[1]](*sys.argv[2:])))
