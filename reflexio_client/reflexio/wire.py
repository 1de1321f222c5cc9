"""One attempt to carry serialized publish requests to the server."""

from collections.abc import Sequence

import grpc

from reflexio.channel import Endpoint
from reflexio.rpcs import PUBLISH, PUBLISH_STREAM
from reflexio.status import error_from_rpc
from reflexio.v1 import interaction_service_pb2 as pb

STREAM_SECONDS = 60.0
_SINGLE_SECONDS = 5.0


def send(
    channel: grpc.Channel, endpoint: Endpoint, payloads: Sequence[bytes], key: str
) -> pb.PublishInteractionStreamResponse:
    """Send PublishInteractionStreamRequests over a stream; returns the verdict or raises a ReflexioError."""
    stream: grpc.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]
    stream = channel.stream_unary(PUBLISH_STREAM.path, None, PUBLISH_STREAM.answer.FromString)
    metadata = (("authorization", f"Bearer {key}"),)
    try:
        return stream(iter(payloads), timeout=STREAM_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        raise error_from_rpc(error, endpoint.url, STREAM_SECONDS) from None
    except RuntimeError:  # since Python 3.12 no thread starts at exit, and grpc needs one for a stream
        return _send_singly(channel, endpoint, payloads, metadata)


def _send_singly(
    channel: grpc.Channel, endpoint: Endpoint, payloads: Sequence[bytes], metadata: tuple[tuple[str, str], ...]
) -> pb.PublishInteractionStreamResponse:
    """As a stream, but by unary calls, which need no thread; ends at the first that fails."""
    publish = channel.unary_unary(PUBLISH.path, PUBLISH.request.SerializeToString, PUBLISH.answer.FromString)
    answer = pb.PublishInteractionStreamResponse()
    for payload in payloads:
        message = pb.PublishInteractionStreamRequest.FromString(payload).request
        try:
            publish(message, timeout=_SINGLE_SECONDS, metadata=metadata)
        except grpc.RpcError as rpc_error:
            error = error_from_rpc(rpc_error, endpoint.url, _SINGLE_SECONDS)
            if answer.requests.stored:
                break
            raise error from None
        answer.requests.stored += 1
    return answer
