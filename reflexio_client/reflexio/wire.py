"""One attempt to carry something to the server over a blocking channel."""

from collections.abc import Sequence

import grpc

from reflexio.channel import Endpoint
from reflexio.rpcs import PUBLISH, PUBLISH_STREAM, A, Q, Rpc
from reflexio.status import error_from_rpc
from reflexio.v1 import interaction_service_pb2 as pb

ATTEMPT_SECONDS = 60.0  # for a stream, and for a delete of much
_SINGLE_SECONDS = 5.0
Metadata = tuple[tuple[str, str], ...]


def unary(channel: grpc.Channel, rpc: Rpc[Q, A], request: Q, seconds: float, metadata: Metadata) -> A:
    """A message and its answer; raises what grpc raises."""
    call: grpc.UnaryUnaryMultiCallable[Q, A]
    call = channel.unary_unary(rpc.path, rpc.request.SerializeToString, rpc.answer.FromString)
    return call(request, timeout=seconds, metadata=metadata)


def stream(
    channel: grpc.Channel, payloads: Sequence[bytes], seconds: float, metadata: Metadata
) -> pb.PublishInteractionStreamResponse:
    """Serialized PublishInteractionStreamRequests and the verdict on them; raises what grpc raises."""
    call: grpc.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]
    call = channel.stream_unary(PUBLISH_STREAM.path, None, PUBLISH_STREAM.answer.FromString)
    return call(iter(payloads), timeout=seconds, metadata=metadata)


def send_publishes(
    channel: grpc.Channel, endpoint: Endpoint, payloads: Sequence[bytes], key: str
) -> pb.PublishInteractionStreamResponse:
    """Send PublishInteractionStreamRequests over a stream; returns the verdict or raises a ReflexioError."""
    try:
        return stream(channel, payloads, ATTEMPT_SECONDS, _metadata(key))
    except grpc.RpcError as error:
        raise error_from_rpc(error, endpoint.url, ATTEMPT_SECONDS) from None
    except RuntimeError:  # since Python 3.12 no thread starts at exit, and grpc needs one for a stream
        return _send_singly(channel, endpoint, payloads, _metadata(key))


def send_delete(channel: grpc.Channel, endpoint: Endpoint, rpc: Rpc[Q, A], payload: bytes, key: str) -> A:
    """Send a serialized request of one of the Delete RPCs; returns the answer or raises a ReflexioError."""
    try:
        return unary(channel, rpc, rpc.request.FromString(payload), ATTEMPT_SECONDS, _metadata(key))
    except grpc.RpcError as error:
        raise error_from_rpc(error, endpoint.url, ATTEMPT_SECONDS) from None


def _metadata(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


def _send_singly(
    channel: grpc.Channel, endpoint: Endpoint, payloads: Sequence[bytes], metadata: Metadata
) -> pb.PublishInteractionStreamResponse:
    """As a stream, but by unary calls, which need no thread; ends at the first that fails."""
    answer = pb.PublishInteractionStreamResponse()
    for payload in payloads:
        message = pb.PublishInteractionStreamRequest.FromString(payload).request
        try:
            unary(channel, PUBLISH, message, _SINGLE_SECONDS, metadata)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error, endpoint.url, _SINGLE_SECONDS)
            if answer.requests.stored:
                break
            raise error from None
        answer.requests.stored += 1
    return answer
