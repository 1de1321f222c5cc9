"""A child that floods a server with wrong logins: "+" on its standard input begins, "-" pauses, the end ends it."""

import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import auth_service_pb2_grpc as auth_grpc
from tools.faults.fleet import EMAIL
from tools.relay import Relay

_MOST_WAITING = 200


def main(address: str, per_second: int, addresses: int, answers: Path) -> None:
    """Half of the tries at the account, the other half at ones that are not there, from each address in turn."""
    relays = [Relay(address, source=f"127.0.0.{number + 2}") for number in range(addresses)]
    stubs = [auth_grpc.AuthServiceStub(grpc.insecure_channel(relay.address)) for relay in relays]
    flooding, over = threading.Event(), threading.Event()
    codes: Counter[str] = Counter()
    places = threading.Semaphore(_MOST_WAITING)

    def obey() -> None:
        while order := os.read(sys.stdin.fileno(), 1):
            (flooding.set if order == b"+" else flooding.clear)()
        over.set()
        flooding.set()

    def count(call: Any) -> None:
        codes[call.code().name] += 1
        places.release()

    threading.Thread(target=obey, daemon=True).start()
    number = 0
    while flooding.wait() and not over.is_set():
        began = time.monotonic()
        places.acquire()
        email = EMAIL if number % 2 else f"{random.getrandbits(40):010x}@example.com"
        request = auth_pb.LoginRequest(email=email, password="not the password")
        stubs[number // 2 % addresses].Login.future(request, timeout=30).add_done_callback(count)
        number += 1
        time.sleep(max(0.0, 1 / per_second - (time.monotonic() - began)))
    for _ in range(_MOST_WAITING):
        places.acquire(timeout=30)
    answers.write_text("\n".join(codes.elements()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
