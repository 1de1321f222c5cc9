"""A server on a real socket that does what a test tells it, and otherwise keeps interactions in memory."""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from reflexio import rpcs
from reflexio.ids import checksum, uuid7
from reflexio.v1 import auth_pb2, interaction_pb2
from reflexio.v1 import auth_service_pb2 as auth
from reflexio.v1 import interaction_service_pb2 as pb

Action = Callable[[Any, grpc.ServicerContext], Any]


def make_key(tag: str = "testaccnt0", fill: str = "s") -> str:
    """A well-formed API key."""
    body = f"rflx_{tag}_{fill * 43}"
    return body + checksum(body)


KEY = make_key()


def info(reason: str, **metadata: str) -> Any:
    return error_details_pb2.ErrorInfo(reason=reason, domain="reflexio", metadata=metadata)


def foreign(reason: str = "NOT_FOUND") -> Any:
    """What something that is not Reflexio says."""
    return error_details_pb2.ErrorInfo(reason=reason, domain="proxy.example.com")


def retry_after(seconds: float) -> Any:
    delay = Duration()
    delay.FromMilliseconds(int(seconds * 1000))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def bad_request(*violations: tuple[str, str]) -> Any:
    kind = error_details_pb2.BadRequest.FieldViolation
    return error_details_pb2.BadRequest(field_violations=[kind(field=f, description=d) for f, d in violations])


def fail(code: grpc.StatusCode, text: str = "scripted", *details: Any) -> Action:
    """Fail with a status and google.rpc details."""

    def act(_request: Any, context: grpc.ServicerContext) -> Any:
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        status = status_pb2.Status(code=code.value[0], message=text, details=packed)
        context.abort_with_status(rpc_status.to_status(status))

    return act


UNREAD = pb.PublishInteractionsRequest()
"""What a server that knows one request in a message takes one with several for."""
NOT_FOUND = fail(grpc.StatusCode.NOT_FOUND, "not there", info("NOT_FOUND", resource="scripted"))
ERASED = fail(grpc.StatusCode.ALREADY_EXISTS, "erased", info("REQUEST_ERASED"))


def answer(message: Any) -> Action:
    """Answer this."""
    return lambda _request, _context: message


def verdict(
    stored: int = 0,
    duplicate: int = 0,
    *rejections: tuple[int, str],
    rejected: int | None = None,
    end: pb.EndReason.ValueType = pb.END_REASON_COMPLETE,
) -> Action:
    """Answer a stream with these counts and rejections (index, reason), without storing anything."""
    counts = {"stored": stored, "duplicate": duplicate, "rejected": len(rejections) if rejected is None else rejected}
    listed = [
        pb.PublishRejection(index=i, reason=r, field="interactions", message=f"refused {i}") for i, r in rejections
    ]
    return answer(
        pb.PublishInteractionStreamResponse(
            requests=pb.PublishCounts(**counts),
            interactions=pb.PublishCounts(**counts),
            rejections=listed,
            end_reason=end,
        )
    )


@dataclass
class Call:
    """What a call brought; `sent` is its message, or the list of requests of a stream, in so many `messages`."""

    method: str
    sent: Any
    metadata: dict[str, str | bytes]
    messages: int = 1


class ScriptedServer(grpc.GenericRpcHandler):
    """Call `script` to say what the next calls of a method meet; then comes the default again.

    `per_message`: how many requests a message of a stream may carry; 0 is a server that knows one only, and takes
    others for empty.
    """

    def __init__(self) -> None:
        self.port = 0
        self.per_message = 0
        self.calls: list[Call] = []
        self.requests: dict[str, pb.PublishInteractionsRequest] = {}
        self.erased: set[str] = set()  # ids of requests and of interactions
        self._scripts: dict[str, deque[Action]] = defaultdict(deque)
        self._always: dict[str, Action] = {}
        self._lock = threading.Lock()
        self._server: grpc.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def script(self, method: str, *actions: Action) -> None:
        self._scripts[method].extend(actions)

    def script_first(self, method: str, action: Action) -> None:
        self._scripts[method].appendleft(action)

    def always(self, method: str, action: Action | None) -> None:
        if action is None:
            self._always.pop(method)
        else:
            self._always[method] = action

    def count(self, method: str) -> int:
        return sum(call.method == method for call in self.calls)

    def sent(self, method: str) -> list[Any]:
        return [call.sent for call in self.calls if call.method == method]

    def start(self, **options: int) -> None:
        """Listen; on the same port again after `stop`."""
        self._server = grpc.server(
            futures.ThreadPoolExecutor(8),
            handlers=[self],
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20), *options.items()],
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop(0).wait()

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        rpc = _RPCS.get(details.method)
        if rpc is None:
            return None
        method = details.method.rpartition("/")[2]

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            sent, messages = request, 1
            if rpc is rpcs.PUBLISH_STREAM:
                parts = list(request)
                sent = []
                for part in parts:
                    several = part.requests if self.per_message else [UNREAD] * bool(part.requests)
                    sent += several or [part.request]
                messages = len(parts)
            with self._lock:
                self.calls.append(Call(method, sent, dict(details.invocation_metadata), messages))
                waiting = self._scripts[method]
                action = waiting.popleft() if waiting else self._always.get(method)
            if action is not None:
                return action(sent, context)
            if method in _DEFAULTS:
                answered = _DEFAULTS[method](self, sent)
                return answered(sent, context) if callable(answered) else answered
            return fail(grpc.StatusCode.UNIMPLEMENTED, "not here yet", info("NOT_IMPLEMENTED"))(sent, context)

        def stream_out(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            yield from handle(request, context)

        serializers = (rpc.request.FromString, rpc.answer.SerializeToString)
        if rpc is rpcs.PUBLISH_STREAM:
            return grpc.stream_unary_rpc_method_handler(handle, *serializers)
        if rpc is rpcs.GET_IMAGE:
            return grpc.unary_stream_rpc_method_handler(stream_out, *serializers)
        return grpc.unary_unary_rpc_method_handler(handle, *serializers)

    def store(self, request: pb.PublishInteractionsRequest) -> str:
        """What became of it: "stored", "duplicate" or "rejected", which is an erased one."""
        with self._lock:
            if request.request_id in self.erased:
                return "rejected"
            known = request.request_id in self.requests
            self.requests.setdefault(request.request_id, request)
            return "duplicate" if known else "stored"

    def erase(self, wanted: Callable[[pb.PublishInteractionsRequest], bool]) -> pb.ErasedCounts:
        """Erase requests, leaving their ids behind."""
        with self._lock:
            found = [request for request in self.requests.values() if wanted(request)]
            for request in found:
                del self.requests[request.request_id]
                self.erased.add(request.request_id)
        return pb.ErasedCounts(requests=len(found), interactions=sum(len(r.interactions) for r in found))

    def stored_contents(self, user_id: str | None = None) -> list[str]:
        with self._lock:
            requests = [r for r in self.requests.values() if user_id in (None, r.user_id)]
        return [i.content for r in requests for i in r.interactions]


def stored(request: pb.PublishInteractionsRequest, data: interaction_pb2.InteractionData, position: int) -> Any:
    """A stored interaction."""
    return interaction_pb2.Interaction(
        interaction_id=f"{request.request_id}/{position}",
        user_id=request.user_id,
        request_id=request.request_id,
        request_group=request.request_group,
        source=request.source,
        role=data.role,
        content=data.content,
        user_action=data.user_action,
        created_at=data.created_at,
    )


def _publish(server: ScriptedServer, request: pb.PublishInteractionsRequest) -> Any:
    became = server.store(request)
    if became == "rejected":
        return ERASED
    ids = [f"{request.request_id}/{i}" for i in range(len(request.interactions))]
    return pb.PublishInteractionsResponse(
        request_id=request.request_id, interaction_ids=ids, replayed=became == "duplicate", searchable=True
    )


def publish_stream(
    server: ScriptedServer, requests: list[pb.PublishInteractionsRequest]
) -> pb.PublishInteractionStreamResponse:
    result = pb.PublishInteractionStreamResponse(
        end_reason=pb.END_REASON_COMPLETE, requests_per_message=server.per_message
    )
    for index, request in enumerate(requests):
        empty = request is UNREAD
        name = "rejected" if empty else server.store(request)
        if name == "rejected":
            reason = "INVALID_FIELD" if empty else "REQUEST_ERASED"
            result.rejections.add(index=index, request_id=request.request_id, reason=reason, message="erased or empty")
        for counts, number in ((result.requests, 1), (result.interactions, len(request.interactions))):
            setattr(counts, name, getattr(counts, name) + number)
    return result


def _all(server: ScriptedServer, request: Any) -> list[Any]:
    with server._lock:
        found = [r for r in server.requests.values() if not request.HasField("user_id") or r.user_id == request.user_id]
    everything = [stored(r, data, i) for r in found for i, data in enumerate(r.interactions)]
    return [i for i in everything if i.interaction_id not in server.erased]


def _get(server: ScriptedServer, request: pb.GetInteractionsRequest) -> pb.GetInteractionsResponse:
    found = _all(server, request)
    begin = int(request.page_token or 0)
    end = begin + (request.page_size or 30)
    return pb.GetInteractionsResponse(
        interactions=found[begin:end], next_page_token=str(end) if end < len(found) else ""
    )


def _search(server: ScriptedServer, request: pb.SearchInteractionsRequest) -> pb.SearchInteractionsResponse:
    hits = [pb.SearchHit(interaction=i, score=0.5) for i in _all(server, request)]
    return pb.SearchInteractionsResponse(hits=hits[: request.top_k])


def _login(_server: ScriptedServer, _request: auth.LoginRequest) -> auth.LoginResponse:
    return auth.LoginResponse(api_key=make_key(fill="n"), key_id=uuid7())


def _who(_server: ScriptedServer, _request: auth.WhoAmIRequest) -> auth.WhoAmIResponse:
    return auth.WhoAmIResponse(account=auth_pb2.Account(email="a@b.c", tag="testaccnt0"))


def _erase(server: ScriptedServer, request: Any) -> pb.ErasedCounts:
    wanted = {name.name: value for name, value in request.ListFields()}
    return server.erase(lambda stored: all(getattr(stored, name) == value for name, value in wanted.items()))


def _erase_interaction(server: ScriptedServer, request: pb.DeleteInteractionRequest) -> pb.ErasedCounts:
    found = any(i.interaction_id == request.interaction_id for i in _all(server, pb.GetInteractionsRequest()))
    server.erased.add(request.interaction_id)
    return pb.ErasedCounts(interactions=int(found))


def _answering(kind: Any, erase: Callable[[ScriptedServer, Any], pb.ErasedCounts] = _erase) -> Any:
    def act(server: ScriptedServer, request: Any) -> Any:
        counts = erase(server, request)
        return kind(erased=counts) if counts.requests or counts.interactions else NOT_FOUND

    return act


_RPCS = {rpc.path: rpc for rpc in vars(rpcs).values() if isinstance(rpc, rpcs.Rpc)}
_DEFAULTS: dict[str, Any] = {
    "Login": _login,
    "WhoAmI": _who,
    "PublishInteractions": _publish,
    "PublishInteractionStream": publish_stream,
    "SearchInteractions": _search,
    "GetInteractions": _get,
    "DeleteInteraction": _answering(pb.DeleteInteractionResponse, _erase_interaction),
    "DeleteRequest": _answering(pb.DeleteRequestResponse),
    "DeleteRequestGroup": _answering(pb.DeleteRequestGroupResponse),
    "DeleteUser": _answering(pb.DeleteUserResponse),
}


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)
