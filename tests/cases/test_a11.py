"""A11: a server stream looks at its key again, so a revoked one does not go on receiving a picture."""

import secrets
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.rpc import decode, watchdog
from tests.support import Caller, LocalServer, log_in
from tests.wire import MIB, publish, wait_until

Start = Callable[..., LocalServer]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (watchdog, decode):
        monkeypatch.setattr(module, "RECHECK_SECONDS", 0.2)


def picture(caller: Caller) -> Any:
    """A picture of 8 MiB on its way, which is read as the test likes."""
    (id_,) = publish(caller, "u", noun.InteractionData(image=secrets.token_bytes(8 * MIB))).interaction_ids
    return id_


def revoke(caller: Caller) -> None:
    me = caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata, timeout=10)
    request = auth_pb.RevokeApiKeyRequest(key_id=me.api_key.key_id)
    caller.auth.RevokeApiKey(request, metadata=caller.metadata, timeout=10)


def test_a_picture_that_is_read_slowly_ends(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    request = pb.GetImageRequest(interaction_id=picture(caller))
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(server.address, options=options) as channel:
        call: Any = channel.unary_stream(
            "/reflexio.v1.InteractionService/GetImage",
            request_serializer=pb.GetImageRequest.SerializeToString,
            response_deserializer=pb.GetImageResponse.FromString,
        )(request, metadata=caller.metadata, timeout=60)
        received = len(next(call).data)
        revoke(caller)
        time.sleep(1.5)
        code = grpc.StatusCode.OK
        try:
            for part in call:
                received += len(part.data)
                time.sleep(0.3)
        except grpc.RpcError as error:
            code = error.code()
        assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.CANCELLED)
        assert received < 4 * MIB, "what was on its way already"


def test_one_that_reads_nothing_more_gives_its_place_back(start: Start) -> None:
    """Its server waits inside of one answer, where it cannot look itself."""
    server = start(max_streams=1, stream_idle_seconds=60)
    caller = server.new_caller()
    call: Any = caller.interactions.GetImage(
        pb.GetImageRequest(interaction_id=picture(caller)), metadata=caller.metadata, timeout=60
    )
    next(call)
    second = log_in(server.address, caller.email)
    revoke(caller)
    began = time.monotonic()

    def is_free() -> bool:
        try:
            second.stream([])
        except grpc.RpcError:
            return False
        return True

    wait_until(is_free, "the place of the stream")
    assert time.monotonic() - began < 15, "60 until it would have been idle"


def test_a_key_that_is_valid_goes_on(start: Start) -> None:
    server = start()
    caller = server.new_caller()
    request = pb.GetImageRequest(interaction_id=picture(caller))
    received = 0
    for part in caller.interactions.GetImage(request, metadata=caller.metadata, timeout=60):
        received += len(part.data)
        time.sleep(0.1)
    assert received == 8 * MIB
