"""Writes the little of ONNX that the models' graphs need: protobuf messages, built from the inside out.

The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, where they stay. The
package `onnx` would be installed with every server, and used once.
"""

import struct
from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

FLOAT, UINT8, INT8, INT32, INT64 = 1, 2, 3, 6, 7  # TensorProto.DataType
_TYPES = {"float32": FLOAT, "uint8": UINT8, "int8": INT8, "int64": INT64}


def tensor(name: str, values: NDArray[Any]) -> bytes:
    """A TensorProto."""
    dims = b"".join(_number(1, size) for size in values.shape)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return dims + _number(2, _TYPES[values.dtype.name]) + _text(8, name) + _field(9, little.tobytes())


def node(operator: str, inputs: Iterable[str], outputs: Iterable[str], domain: str, **attributes: Any) -> bytes:
    """A NodeProto; an attribute is an int64, a float or a list of int64 as Python's value is."""
    parts = [*(_text(1, name) for name in inputs), *(_text(2, name) for name in outputs), _text(4, operator)]
    for name, value in attributes.items():
        if isinstance(value, int):
            parts.append(_field(5, _text(1, name) + _number(3, value) + _number(20, 2)))
        elif isinstance(value, list):
            parts.append(_field(5, _text(1, name) + b"".join(_number(8, one) for one in value) + _number(20, 7)))
        else:
            parts.append(_field(5, _text(1, name) + _key(2, 5) + struct.pack("<f", value) + _number(20, 1)))
    return b"".join([*parts, _text(7, domain)])


def value(name: str, kind: int, shape: Iterable[int | str]) -> bytes:
    """A ValueInfoProto, for what goes in or out; a dimension that has a name may be of any size."""
    dims = b"".join(_field(1, _number(1, size) if isinstance(size, int) else _text(2, size)) for size in shape)
    return _text(1, name) + _field(2, _field(1, _number(1, kind) + _field(2, dims)))


def model(
    name: str,
    nodes: Iterable[bytes],
    tensors: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    opsets: dict[str, int],
    ir_version: int,
) -> bytes:
    """A whole file, a ModelProto with one graph."""
    groups = ((1, nodes), (5, tensors), (11, inputs), (12, outputs))
    graph = b"".join([_text(2, name), *(_field(number, one) for number, group in groups for one in group)])
    versions = (_field(8, _text(1, domain) + _number(2, version)) for domain, version in opsets.items())
    return b"".join([_number(1, ir_version), _field(7, graph), *versions])


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _field(number: int, content: bytes) -> bytes:
    return _key(number, 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _key(number, 0) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)  # below 0 as two's complement


def _key(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)
