"""What the wire fuzz is made of; the fuzz itself is the row `wire-fuzz` of scripts/faults."""

import random
import socket
from pathlib import Path

import grpc
import pytest

from tests.support import Caller, ServerProcess, create_account, log_in
from tools.contract import RPCS, Named, path_of, right_request
from tools.faults.mutations import mutate_token, mutated, mutated_metadata, records
from tools.faults.raw_http2 import call_of, headers_of, message_of
from tools.faults.wire_fuzz import INSIDE

SEED = 4711


def requests(seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [mutated(right_request(name, Named()), source) for name in sorted(RPCS) for _ in range(50)]


def test_a_seed_repeats_its_requests() -> None:
    assert requests(SEED) == requests(SEED)
    assert requests(SEED) != requests(SEED + 1)
    assert mutated_metadata("key", random.Random(SEED)) == mutated_metadata("key", random.Random(SEED))


def test_most_requests_are_changed_and_some_are_still_messages() -> None:
    source = random.Random(SEED)
    for name in (name for name, method in RPCS.items() if method.input_type.fields):
        right = right_request(name, Named()).SerializeToString()
        found = [mutated(right_request(name, Named()), source) for _ in range(200)]
        assert sum(raw == right for raw in found) < 60
        assert len(set(found)) > 80


@pytest.mark.parametrize("name", sorted(RPCS))
def test_a_message_is_the_sum_of_its_records(name: str) -> None:
    raw = right_request(name, Named()).SerializeToString()
    assert b"".join(record.encoded() for record in records(raw)) == raw


def test_a_token_is_changed() -> None:
    source = random.Random(SEED)
    token = "AQ" * 27
    assert all(mutate_token(token, source) != token for _ in range(500))


@pytest.mark.parametrize(
    "said",
    [
        b"Exception calling application: 'x'",
        b"sqlite3.OperationalError: no such table",
        b"KeyError: 5",
        b'File "/srv/app.py", line 3',
        b"<Lister object at 0x7f>",
    ],
)
def test_what_comes_from_inside_is_seen(said: bytes) -> None:
    assert INSIDE.search(said)


def test_no_answer_of_ours_looks_like_it() -> None:
    assert not INSIDE.search(b"no valid credentials: log in, and send the API key as the metadata")
    assert not INSIDE.search(b"internal error 5ad1: the server's log has the cause under this id")


def test_a_right_call_made_of_bytes_is_answered(caller: Caller) -> None:
    assert _grpc_status(caller, headers_of(caller.api_key, "/reflexio.v1.AuthService/WhoAmI")) == 0


def test_a_damaged_key_is_refused_and_not_logged(tmp_path: Path, model_dir: Path) -> None:
    """grpc itself would log a value that is not UTF-8 in full."""
    email = create_account(tmp_path)
    server = ServerProcess(tmp_path, model_dir, "--log-level", "debug")
    caller = log_in(server.address, email)
    path = path_of(RPCS["reflexio.v1.AuthService.WhoAmI"])
    headers = [
        (name, value + b"\xff" if name == b"authorization" else value)
        for name, value in headers_of(caller.api_key, path)
    ]
    try:
        assert _grpc_status(caller, headers) == grpc.StatusCode.UNAUTHENTICATED.value[0]
    finally:
        assert server.terminate() == 0
    said = "".join(server.lines)
    assert "UNAUTHENTICATED" in said
    assert caller.api_key not in said


def _grpc_status(caller: Caller, headers: list[tuple[bytes, bytes]]) -> int:
    """The status in the trailers, which grpc writes without Huffman's code; the first that comes."""
    host, port = caller.address.rsplit(":", 1)
    said = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(call_of(headers, message_of(b"", 0)))
        while b"grpc-status" not in said:
            part = connection.recv(65536)
            assert part, f"the server closed the connection after {said!r}"
            said += part
    rest = said[said.index(b"grpc-status") + len("grpc-status") :]
    return int(rest[1 : 1 + rest[0]])
