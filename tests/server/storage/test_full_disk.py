"""A disk that is really full: writes are refused, reads go on, nothing acknowledged is lost, room mends it.

The disk is a small tmpfs in a mount namespace of its own; where a user may not make one the test is left out.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import grpc
import pytest

from reflexio.v1 import interaction_pb2 as noun
from tests.support import Caller, failure_of, log_in
from tests.wire import everything, publish, wait_until
from tools.server_process import ServerProcess, create_account

DISK = "64m"  # room for all that is published, for as much in the log, and for the index
FILLER = "filler"
PICTURE_BYTES = 200_000
# The processes of a test end with it, as they are in a namespace of their own.
_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]


def can_mount(folder: Path) -> bool:
    try:
        tried = subprocess.run(
            [*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, timeout=20
        )
    except OSError:
        return False
    return tried.returncode == 0


@pytest.mark.parametrize("moment", ["running", "starting"])
def test_on_a_full_disk(tmp_path: Path, model_dir: Path, moment: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("needs Linux user namespaces that may mount a tmpfs")
    script = f'mount -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"'
    command = [
        *_UNSHARE,
        "sh",
        "-c",
        script,
        str(disk),
        sys.executable,
        "-m",
        __name__,
        moment,
        str(disk),
        str(model_dir),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    print(ran.stdout, ran.stderr)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "done" in ran.stdout


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("ab", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def store(caller: Caller, number: int) -> bool:
    """Whether it was stored; else the server said that the disk is full."""
    item = noun.InteractionData(content=f"word{number}", image=number.to_bytes(2, "big") * (PICTURE_BYTES // 2))
    try:
        publish(caller, "u", item, request_id=str(number))
    except grpc.RpcError as error:
        found = failure_of(error)
        assert found.code is grpc.StatusCode.UNAVAILABLE, found
        assert found.info.reason == "DISK_FULL", found
        assert found.retry_seconds
        return False
    return True


def indexed(caller: Caller) -> bool:
    return caller.search(query="anything").unindexed_count == 0


def running(disk: Path, model_dir: Path) -> None:
    """It becomes full while the server runs, in the database and in the index."""
    data, filler = disk / "data", disk / FILLER
    server = ServerProcess(data, model_dir)
    caller = log_in(server.address, create_account(data))
    acknowledged = {number for number in range(10) if store(caller, number)}
    assert len(acknowledged) == 10
    wait_until(lambda: indexed(caller), "the first vectors")

    fill(filler)
    refused = {number for number in range(10, 50) if not store(caller, number)}
    assert refused, "the disk is full"
    acknowledged |= set(range(10, 50)) - refused
    assert {int(item.request_id) for item in everything(caller)} == acknowledged, "reads go on"
    assert caller.search(user_id="u", query="word3").hits[0].interaction.request_id == "3"
    assert caller.search(query="word3").hits

    filler.unlink()
    wait_until(lambda: store(caller, 1000), "writes to be taken again")
    for number in refused:
        assert store(caller, number)
    acknowledged |= refused | {1000}
    wait_until(lambda: indexed(caller), "all vectors")
    check_after_restart(server, data, model_dir, caller, acknowledged)


def starting(disk: Path, model_dir: Path) -> None:
    """It is full when the server starts."""
    data, filler = disk / "data", disk / FILLER
    server = ServerProcess(data, model_dir)
    caller = log_in(server.address, create_account(data))
    acknowledged = {number for number in range(10) if store(caller, number)}
    wait_until(lambda: indexed(caller), "the vectors")
    server.kill()
    fill(filler)
    server = ServerProcess(data, model_dir)
    caller = Caller(server.address, caller.email, caller.api_key)
    assert {int(item.request_id) for item in everything(caller)} == acknowledged
    assert caller.search(user_id="u", query="word3").hits[0].interaction.request_id == "3"
    refused = [number for number in range(10, 50) if not store(caller, number)]
    assert refused
    acknowledged |= set(range(10, 50)) - set(refused)
    filler.unlink()
    wait_until(lambda: store(caller, 1000), "writes to be taken again")
    check_after_restart(server, data, model_dir, caller, acknowledged | {1000})


def check_after_restart(
    server: ServerProcess, data: Path, model_dir: Path, caller: Caller, acknowledged: set[int]
) -> None:
    """All that was acknowledged is there, in the rows and in the index, and again after another start."""
    for _ in range(2):
        assert {int(item.request_id) for item in everything(caller)} == acknowledged
        wait_until(partial(indexed, caller), "all vectors")
        for number in sorted(acknowledged)[::20]:
            found = caller.search(query=f"word{number}", top_k=3)
            assert str(number) in [hit.interaction.request_id for hit in found.hits]
        assert server.terminate() == 0, "".join(server.lines[-20:])
        server = ServerProcess(data, model_dir)
        caller = Caller(server.address, caller.email, caller.api_key)
    assert server.terminate() == 0
    print("done")


if __name__ == "__main__":
    {"running": running, "starting": starting}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
