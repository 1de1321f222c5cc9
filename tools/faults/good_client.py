"""`good_client ADDRESS`: publishes and reads in turn, until its input is closed, and says as JSON how that went.

The first line of its input is its API key.
"""

import json
import statistics
import sys
import threading
import time

import grpc

from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller
from tools.faults.crowd import publish

_PAUSE = 0.005


def call(client: Caller, number: int) -> None:
    if number % 2:
        client.interactions.PublishInteractions(publish(f"good {number}"), metadata=client.metadata, timeout=30)
    else:
        request = pb.GetInteractionsRequest(user_id="good", page_size=10)
        client.interactions.GetInteractions(request, metadata=client.metadata, timeout=30)


def main() -> None:
    client = Caller(sys.argv[1], sys.stdin.readline().strip())
    over = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        over.set()

    call(client, 1)
    threading.Thread(target=wait, daemon=True).start()
    print("begun", flush=True)
    milliseconds: list[float] = []
    errors: list[str] = []
    while not over.wait(_PAUSE):
        began = time.perf_counter()
        try:
            call(client, 2 + len(milliseconds))
        except grpc.RpcError as error:
            errors.append(f"{error.code().name}: {error.details()}")
        milliseconds.append((time.perf_counter() - began) * 1000)
    p99 = statistics.quantiles(milliseconds, n=100)[98] if len(milliseconds) > 1 else 0.0
    print(json.dumps({"calls": len(milliseconds), "errors": errors, "p99_ms": round(p99, 1)}))


if __name__ == "__main__":
    main()
