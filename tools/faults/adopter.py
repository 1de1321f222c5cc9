"""`adopter SECONDS FOLDER…`: the next start: a client on each spool folder, flushed; it stays until its input ends."""

import os
import sys
import time

from reflexio import ReflexioClient


def main(seconds: float, folders: list[str]) -> None:
    deadline = time.monotonic() + seconds
    clients = []
    for folder in folders:
        os.environ["REFLEXIO_SPOOL_DIR"] = folder
        clients.append(ReflexioClient())
    for client, folder in zip(clients, folders, strict=True):
        result = client.flush(max(0.1, deadline - time.monotonic()))
        if result.pending:
            os.write(1, f"{folder}: {result}\n".encode())
    os.write(1, b"flushed\n")
    sys.stdin.read()
    for client in clients:
        client.close(1.0)


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2:])
