"""Gives each call its id, and a line in the log when it is over."""

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import grpc

from reflexio.supervised import say
from reflexio_server.rpc import calls
from reflexio_server.rpc.around import Wrapper, kind_of, with_behaviour, wrap
from reflexio_server.rpc.calls import CALL_ID_KEY, NOT_OF_THE_CONTRACT, Call

logger = logging.getLogger("reflexio_server.calls")

_AS_WANTED = {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}
_OUR_FAULT = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


class LogCalls(Wrapper):
    """Stands outermost: everything that is logged within has the call's id, and so has the answer's metadata.

    A call that succeeds, or that its client cancels, is a line at DEBUG, one that fails at INFO, or at WARNING where
    the server is to blame: so the id in an error that somebody shows is found in the log as it is by default. Never in
    it: what was said.
    """

    def wrap(self, handler: Any, method: str) -> Any:
        if method not in NOT_OF_THE_CONTRACT:
            handler = _counting_bytes(handler)
        return wrap(handler, lambda context: self._around(method, context))

    @contextlib.contextmanager
    def _around(self, method: str, context: grpc.ServicerContext) -> Iterator[None]:
        started = time.perf_counter()
        call = calls.begin(method, context.invocation_metadata())
        context.set_trailing_metadata(((CALL_ID_KEY, call.call_id),))
        try:
            yield
        finally:
            _log(call, calls.code_of(context), time.perf_counter() - started)


def _log(call: Call, code: grpc.StatusCode, seconds: float) -> None:
    level = logging.WARNING if code in _OUR_FAULT else logging.INFO
    if code in _AS_WANTED or call.method in NOT_OF_THE_CONTRACT:
        level = logging.DEBUG
    if logger.isEnabledFor(level):
        fields = {
            "method": call.method,
            "code": code.name,
            "duration_ms": round(seconds * 1000, 1),
            "account": call.caller.account.tag,
            "received_bytes": call.received,
            "sent_bytes": call.sent,
        }
        say(logger.log, level, "call ended", extra=fields)


def _counting_bytes(handler: Any) -> Any:
    """The handler with answers serialized here rather than by grpc, so that they can be measured.

    At this place requests are bytes, as `Decode` parses them, and every call is a stream of them, see `Admit`.
    """
    behaviour, serialize = getattr(handler, kind_of(handler)), handler.response_serializer

    def received(raws: Iterator[bytes], call: Call) -> Iterator[bytes]:
        for raw in raws:
            call.received += len(raw)
            yield raw

    def sent(response: Any, call: Call) -> bytes:
        raw: bytes = serialize(response)
        call.sent += len(raw)
        return raw

    def answer(raws: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        call = calls.current()
        return sent(behaviour(received(raws, call), context), call)

    def answers(raws: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        call = calls.current()
        for response in behaviour(received(raws, call), context):
            yield sent(response, call)

    return with_behaviour(handler, answers if handler.response_streaming else answer, response_serializer=None)
