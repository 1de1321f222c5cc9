"""Requests that are almost right: messages, page tokens and metadata with something wrong in each."""

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet

from tools.contract import Metadata, random_message, set_random

_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32 = range(6)
_BAD_TEXTS = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\0", b"a\0b")
_DEEP = 400  # levels; protobuf's own limit is 100


@dataclass(frozen=True, slots=True)
class Record:
    """A field as it is on the wire; `body` is what follows the tag, of a length-delimited one without the length."""

    number: int
    kind: int
    body: bytes

    def encoded(self) -> bytes:
        tag = varint(self.number << 3 | self.kind)
        return tag + (varint(len(self.body)) if self.kind == _LENGTH else b"") + self.body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def records(raw: bytes) -> list[Record]:
    """The fields of a serialized message; none of what is no message, or has groups."""
    as_body: dict[int, Callable[[Any], bytes]] = {
        _VARINT: varint,
        _LENGTH: bytes,
        _FIXED64: lambda value: value.to_bytes(8, "little"),
        _FIXED32: lambda value: value.to_bytes(4, "little"),
    }
    try:
        found = UnknownFieldSet(Empty.FromString(raw))
        fields = [found[at] for at in range(len(found))]
        return [Record(field.field_number, field.wire_type, as_body[field.wire_type](field.data)) for field in fields]
    except (DecodeError, KeyError):
        return []


def _encoded(fields: list[Record]) -> bytes:
    return b"".join(field.encoded() for field in fields)


def _flip_bits(raw: bytes, source: random.Random) -> bytes:
    changed = bytearray(raw or b"\0")
    for _ in range(source.choice((1, 1, 2, 8))):
        changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
    return bytes(changed)


def _truncate(raw: bytes, source: random.Random) -> bytes:
    return raw[: source.randrange(len(raw) + 1)]


def _insert(raw: bytes, source: random.Random) -> bytes:
    at = source.randrange(len(raw) + 1)
    return raw[:at] + source.randbytes(source.choice((1, 4, 40))) + raw[at:]


def _junk(_raw: bytes, source: random.Random) -> bytes:
    return source.randbytes(source.randrange(60))


def _twice(raw: bytes, _source: random.Random) -> bytes:
    return raw + raw


def _unknown_field(raw: bytes, source: random.Random) -> bytes:
    number = source.choice((15, 16, 1000, 19_000, 2**29 - 1, 2**29, 0))
    kind = source.choice((_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32, 6, 7))
    body = b"\x01" if kind == _VARINT else source.randbytes(8 if kind == _FIXED64 else 4)
    return raw + Record(number, kind, body).encoded()


def _huge_varint(raw: bytes, source: random.Random) -> bytes:
    number = source.randrange(1, 9)
    return raw + varint(number << 3) + b"\xff" * source.choice((4, 9, 10, 11, 64)) + source.choice((b"", b"\x01"))


def _nest(raw: bytes, source: random.Random) -> bytes:
    """A message in a message in a message, or groups in groups, ended or not."""
    number = source.randrange(1, 9)
    depth = source.choice((3, 99, 101, _DEEP))
    if source.random() < 0.5:
        for _ in range(depth):
            raw = Record(number, _LENGTH, raw).encoded()
        return raw
    return raw + varint(number << 3 | _START) * depth + varint(number << 3 | _END) * source.choice((0, 1, depth))


_ON_BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip_bits,
    _truncate,
    _insert,
    _junk,
    _twice,
    _unknown_field,
    _huge_varint,
    _nest,
)


def _shuffle(fields: list[Record], _at: int, source: random.Random) -> bytes:
    return _encoded(source.sample(fields, len(fields)))


def _drop(fields: list[Record], at: int, _source: random.Random) -> bytes:
    return _encoded(fields[:at] + fields[at + 1 :])


def _repeat(fields: list[Record], at: int, source: random.Random) -> bytes:
    return _encoded(fields + [fields[at]] * source.choice((1, 2, 150, 1100)))


def _other_kind(fields: list[Record], at: int, source: random.Random) -> bytes:
    changed = replace(fields[at], kind=source.choice((_VARINT, _FIXED64, _LENGTH, _START, _END, _FIXED32, 6, 7)))
    return _encoded([*fields[:at], changed, *fields[at + 1 :]])


def _other_number(fields: list[Record], at: int, source: random.Random) -> bytes:
    changed = replace(fields[at], number=source.randrange(1, 12))
    return _encoded([*fields[:at], changed, *fields[at + 1 :]])


def _lie_about_length(fields: list[Record], at: int, source: random.Random) -> bytes:
    field = fields[at]
    length = source.choice((0, 1, len(field.body) - 1, len(field.body) + 1, 2**31 - 1, 2**32, 2**63))
    lie = varint(field.number << 3 | _LENGTH) + varint(max(0, length)) + field.body
    return _encoded(fields[:at]) + lie + _encoded(fields[at + 1 :])


def _bad_text(fields: list[Record], at: int, source: random.Random) -> bytes:
    changed = Record(fields[at].number, _LENGTH, source.choice(_BAD_TEXTS))
    return _encoded([*fields[:at], changed, *fields[at + 1 :]])


_ON_FIELDS: tuple[Callable[[list[Record], int, random.Random], bytes], ...] = (
    _shuffle,
    _drop,
    _repeat,
    _other_kind,
    _other_number,
    _lie_about_length,
    _bad_text,
)


def mutate_bytes(raw: bytes, source: random.Random, depth: int = 3) -> bytes:
    """Change a serialized message, or, if it is lucky, a message in it, whose length is then put right."""
    fields = records(raw)
    if not fields or source.random() < 0.3:
        return source.choice(_ON_BYTES)(raw, source)
    at = source.randrange(len(fields))
    if depth and fields[at].kind == _LENGTH and fields[at].body and source.random() < 0.5:
        inner = mutate_bytes(fields[at].body, source, depth - 1)
        return _encoded([*fields[:at], replace(fields[at], body=inner), *fields[at + 1 :]])
    return source.choice(_ON_FIELDS)(fields, at, source)


def mutate_fields(message: Message, source: random.Random) -> None:
    """Set some fields, here or in the messages inside, to values that may be extremes."""
    for _ in range(source.choice((1, 1, 2, 4))):
        inside: Any = message
        while inside.DESCRIPTOR.fields:
            field = source.choice(inside.DESCRIPTOR.fields)
            within = getattr(inside, field.name) if field.message_type is not None else None
            if within is None or not (len(within) if field.is_repeated else inside.HasField(field.name)):
                set_random(inside, field, source)
                break
            inside = source.choice(within) if field.is_repeated else within


def mutate_token(token: str, source: random.Random) -> str:
    """A page token of which a part is another: its text, its bytes, or its length."""
    packed = bytearray(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    match source.randrange(5):
        case 0:
            return token[: source.randrange(len(token))]
        case 1:
            return token + source.choice(("A", "AA", "=", "é", "\0", " ", token))
        case 2:
            packed[source.randrange(len(packed))] ^= 1 << source.randrange(8)
        case 3:  # the head says which query it belongs to, the rest where to go on
            packed[9:] = source.choice((bytes(len(packed) - 9), b"\xff" * (len(packed) - 9)))
        case 4:
            packed[source.randrange(len(packed)) :] = source.randbytes(source.randrange(40))
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def mutated(message: Any, source: random.Random) -> bytes:
    """A serialized message made from a right one; one in twenty is left right."""
    token = getattr(message, "page_token", "")
    if token and source.random() < 0.5:
        message.page_token = mutate_token(token, source)
        return bytes(message.SerializeToString())
    kind = source.random()
    if kind < 0.05:
        return bytes(message.SerializeToString())
    if kind < 0.35:
        mutate_fields(message, source)
        return bytes(message.SerializeToString())
    if kind < 0.45:
        return random_message(GetMessageClass(message.DESCRIPTOR), source).SerializeToString()
    raw = bytes(message.SerializeToString())
    for _ in range(source.choice((1, 1, 1, 3))):
        raw = mutate_bytes(raw, source)
    return raw


def mutated_metadata(api_key: str, source: random.Random) -> Metadata:
    """Mostly a right key; else a wrong one, none, several, or a right one among what no client sends."""
    right = ("authorization", f"Bearer {api_key}")
    if source.random() < 0.8:
        return (right,)
    at = source.randrange(len(api_key))
    wrong: tuple[Metadata, ...] = (
        (),
        (right, right),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", api_key),),
        (("authorization", f"Basic {api_key}"),),
        (("authorization", f"bearer  {api_key} "),),
        (("authorization", f"Bearer {api_key[:at]}"),),
        (("authorization", f"Bearer {api_key[:at]}~{api_key[at + 1 :]}"),),
        (("authorization", f"Bearer {api_key.swapcase()}"),),
        (("authorization", "Bearer " + "A" * source.choice((1000, 7000, 20_000))),),
        (("authorization-bin", source.randbytes(40)),),
        (right, ("x-request-id", source.choice(("", "a b", "%00", '"', "x" * 3000, "${jndi:ldap://a}")))),
        (right, ("traceparent", source.choice(("", "00-0-0-0", "ff-" + "f" * 52, "00-" + "0" * 32 + "-0-1")))),
        (right, ("user-agent", "x" * 4000)),
        (right, ("grpc-accept-encoding", "gzip,nonsense")),
        (right, *((f"odd-{number}-bin", source.randbytes(30)) for number in range(60))),
        (right, *((f"odd.{number}_", "~" * 100) for number in range(40))),
        (right, ("long", "x" * source.choice((7000, 9000, 30_000)))),
    )
    return source.choice(wrong)
