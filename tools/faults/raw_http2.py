"""Connections that speak no proper gRPC: junk, frames out of order, and calls whose framing lies."""

import contextlib
import gzip
import random
import socket
import struct

from tools.contract import NEVER_STORED, RPCS, Named, path_of, right_request
from tools.faults.mutations import varint

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_QUIET = 0.1  # seconds without an answer after which a connection is given up
_MOST_READ = 1 << 20


def converse(address: str, api_key: str, source: random.Random) -> bytes:
    """One connection with something wrong; returns all that the server said."""
    host, port = address.rsplit(":", 1)
    said = bytearray()
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(source.choice(_KINDS)(api_key, source))
        connection.settimeout(_QUIET)
        while len(said) < _MOST_READ and (part := connection.recv(65536)):
            said += part
    return bytes(said)


def _junk(_api_key: str, source: random.Random) -> bytes:
    return source.randbytes(source.choice((1, 24, 4000)))


def _http1(_api_key: str, source: random.Random) -> bytes:
    return source.choice((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST " + b"/" * 20_000, b"\x16\x03\x01\x02\x00\x01"))


def _cut_preface(_api_key: str, source: random.Random) -> bytes:
    return _PREFACE[: source.randrange(len(_PREFACE))] + source.randbytes(source.randrange(20))


def _junk_frames(_api_key: str, source: random.Random) -> bytes:
    frames = [
        _frame(
            source.randrange(12),
            source.randrange(256),
            source.choice((0, 1, 2, 3, 2**31 - 1)),
            source.randbytes(source.choice((0, 4, 6, 8, 40))),
            lie=source.choice((0, 0, 0, 1, 2**24 - 1)),
        )
        for _ in range(source.randrange(1, 30))
    ]
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"") + b"".join(frames)


def _settings(_api_key: str, source: random.Random) -> bytes:
    """Values that a peer must not announce."""
    pairs = [(source.randrange(8), source.choice((0, 1, 2**31, 2**32 - 1))) for _ in range(source.randrange(1, 60))]
    return _PREFACE + _frame(_SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def _odd_headers(api_key: str, source: random.Random) -> bytes:
    headers = headers_of(api_key, path_of(RPCS[source.choice(list(RPCS))]))
    at = source.randrange(len(headers))
    match source.randrange(4):
        case 0:
            del headers[at]
        case 1:
            headers.insert(0, headers[at])
        case 2:
            headers[at] = (headers[at][0], source.choice((b"", b"\0", b"\xff" * 40, b"a\r\nb: c", b"x" * 20_000)))
        case 3:
            odd = ((b"grpc-timeout", b"1x"), (b"grpc-encoding", b"nonsense"), (b"te", b"no"), (b"UPPER", b"x"))
            headers.append(source.choice(odd))
    return call_of(headers, message_of(b"", 0))


def _lying_message(api_key: str, source: random.Random) -> bytes:
    """The prefix of a message tells whether it is compressed, and how long it is."""
    name = source.choice(list(RPCS))
    raw = right_request(name, Named(user_id="raw", key_id=NEVER_STORED)).SerializeToString()
    headers = headers_of(api_key, path_of(RPCS[name]))
    if source.random() < 0.5:
        headers.append((b"grpc-encoding", source.choice((b"gzip", b"deflate", b"identity"))))
    body = source.choice((raw, gzip.compress(raw), gzip.compress(raw)[:-9], gzip.compress(bytes(1 << 26))))
    lie = source.choice((None, 0, 1, len(body) + 1, 2**31, 2**32 - 1))
    return call_of(headers, message_of(body, source.choice((0, 1, 1, 2, 255)), lie), ended=source.random() < 0.8)


_KINDS = (_junk, _http1, _cut_preface, _junk_frames, _settings, _odd_headers, _lying_message, _lying_message)


def headers_of(api_key: str, path: str) -> list[tuple[bytes, bytes]]:
    """The headers of a right call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"authorization", b"Bearer " + api_key.encode()),
    ]


def call_of(headers: list[tuple[bytes, bytes]], message: bytes, *, ended: bool = True) -> bytes:
    """All that a client sends for one call on a new connection."""
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)
    frames = [_frame(_SETTINGS, 0, 0, b""), _frame(_HEADERS, _END_HEADERS, 1, block[:16384])]
    parts = [message[at : at + 16384] for at in range(0, len(message), 16384)]
    for number, part in enumerate(parts, 1):
        frames.append(_frame(_DATA, _END_STREAM if ended and number == len(parts) else 0, 1, part))
    return _PREFACE + b"".join(frames)


def _frame(kind: int, flags: int, stream: int, payload: bytes, *, lie: int = 0) -> bytes:
    """RFC 9113 §4.1: 24 bits of length, type, flags, stream."""
    length = min(len(payload) + lie, 2**24 - 1)
    return struct.pack(">I", length)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(text: bytes) -> bytes:
    """RFC 7541 §5: a string that is not Huffman-coded, its length an integer with a prefix of 7 bits."""
    size = len(text)
    return (bytes([size]) if size < 127 else b"\x7f" + varint(size - 127)) + text


def message_of(body: bytes, flag: int, lie: int | None = None) -> bytes:
    """A message behind its prefix: whether it is compressed, and how long it is or is said to be."""
    return struct.pack(">BI", flag, len(body) if lie is None else lie) + body
