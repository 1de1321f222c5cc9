"""One attempt to carry something to the server over a blocking channel."""

import math
import time
from collections.abc import Sequence

import grpc

from reflexio.channel import Endpoint
from reflexio.rpcs import PUBLISH, PUBLISH_STREAM, A, Q, Rpc
from reflexio.status import error_from_rpc
from reflexio.streams import OneByOne, Streams, pack
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
    channel: grpc.Channel, payloads: Sequence[bytes], streams: Streams, seconds: float, metadata: Metadata
) -> pb.PublishInteractionStreamResponse:
    """Serialized messages with a `request` each, and the verdict on them or the first of them; raises what grpc raises.

    While all places for streams are taken they go by unary calls.
    """
    if not streams.full:
        try:
            return _stream(channel, payloads, streams, seconds, metadata)
        except grpc.RpcError as error:
            if not streams.are_full(error):
                raise
    return _one_by_one(channel, payloads, seconds, metadata, streams.full_until)


def send_publishes(
    channel: grpc.Channel, endpoint: Endpoint, payloads: Sequence[bytes], key: str, streams: Streams
) -> pb.PublishInteractionStreamResponse:
    """As `stream`, but raises a ReflexioError."""
    try:
        try:
            return stream(channel, payloads, streams, ATTEMPT_SECONDS, _metadata(key))
        except RuntimeError:  # since Python 3.12 no thread starts at exit, and grpc needs one for a stream
            return _one_by_one(channel, payloads, _SINGLE_SECONDS, _metadata(key))
    except grpc.RpcError as error:
        raise error_from_rpc(error, endpoint.url, ATTEMPT_SECONDS) from None


def send_delete(channel: grpc.Channel, endpoint: Endpoint, rpc: Rpc[Q, A], payload: bytes, key: str) -> A:
    """Send a serialized request of one of the Delete RPCs; returns the answer or raises a ReflexioError."""
    try:
        return unary(channel, rpc, rpc.request.FromString(payload), ATTEMPT_SECONDS, _metadata(key))
    except grpc.RpcError as error:
        raise error_from_rpc(error, endpoint.url, ATTEMPT_SECONDS) from None


def _metadata(key: str) -> Metadata:
    return (("authorization", f"Bearer {key}"),)


def _stream(
    channel: grpc.Channel, payloads: Sequence[bytes], streams: Streams, seconds: float, metadata: Metadata
) -> pb.PublishInteractionStreamResponse:
    call: grpc.StreamUnaryMultiCallable[bytes, pb.PublishInteractionStreamResponse]
    call = channel.stream_unary(PUBLISH_STREAM.path, None, PUBLISH_STREAM.answer.FromString)
    end, most = time.monotonic() + seconds, streams.per_message
    messages = pack(payloads, most)
    answer = call(iter(messages), timeout=seconds, metadata=metadata)
    if streams.understood(answer, most) or len(messages) == len(payloads):
        return answer
    return call(iter(payloads), timeout=max(0.001, end - time.monotonic()), metadata=metadata)


def _one_by_one(
    channel: grpc.Channel, payloads: Sequence[bytes], seconds: float, metadata: Metadata, until: float = math.inf
) -> pb.PublishInteractionStreamResponse:
    """As a stream, but by unary calls, which need no thread and no place for one; at least one, and others `until`."""
    sent = OneByOne()
    for payload in payloads:
        request = pb.PublishInteractionStreamRequest.FromString(payload).request
        try:
            sent.stored(unary(channel, PUBLISH, request, seconds, metadata))
        except grpc.RpcError as error:
            if not sent.failed(request, error):
                break
        except ValueError:  # the channel was closed between two calls
            if not sent.handled:
                raise
            break
        if time.monotonic() >= until:
            break
    return sent.answer
