"""B11: what needs no key is told by whole method names, so that a method that is added needs one."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.support import LocalServer
from tests.wire import code_of

MADE_UP = [
    "/reflexio.v1.AuthService/LoginAs",
    "/reflexio.v1.AuthService/Login2",
    "/grpc.health.v1.Health/Reset",
    "/grpc.health.v1.Admin/Check",
    "/grpc.reflection.v1alpha.ServerReflection/Other",
    "/grpc.reflection.v9.ServerReflection/ServerReflectionInfo",
]


@pytest.mark.parametrize("path", MADE_UP)
def test_a_method_that_is_added_needs_a_key(start: Callable[..., LocalServer], path: str) -> None:
    server = start()
    caller = server.new_caller()
    reached: list[str] = []

    class Added(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> Any:
            if details.method != path:
                return None

            def answer(_request: Any, _context: Any) -> bytes:
                reached.append(path)
                return b""

            return grpc.unary_unary_rpc_method_handler(answer, lambda raw: raw + b" ", lambda raw: raw)

    server.app._server.add_generic_rpc_handlers((Added(),))
    call: Any = caller.channel.unary_unary(path)
    assert code_of(lambda: call(b"", timeout=10)) is grpc.StatusCode.UNAUTHENTICATED
    assert not reached
    call(b"", metadata=caller.metadata, timeout=10)
    assert reached == [path]
