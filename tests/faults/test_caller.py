import socket

import grpc
import pytest

from reflexio.v1 import interaction_service_pb2 as pb
from tools.faults.caller import Caller


def test_a_call_waits_for_a_connection_that_is_slow_to_come() -> None:
    """A busy machine may take a second to shake hands, and calls that do not wait for a server must outlast it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        caller = Caller(f"127.0.0.1:{silent.getsockname()[1]}", "key")
        with pytest.raises(grpc.RpcError) as raised:
            caller.interactions.GetInteractions(pb.GetInteractionsRequest(), metadata=caller.metadata, timeout=2)
        caller.channel.close()
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
