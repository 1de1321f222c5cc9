"""The fields of a message in its bytes, without parsing it: https://protobuf.dev/programming-guides/encoding/."""

from collections.abc import Iterator


def count_fields(raw: bytes, most: int, *, nested: bool) -> int:
    """How many fields a message has on the wire, not counting those inside of them; `most` + 1 at most.

    `nested`: it is an envelope, and the fields of the messages in it are counted as well. Broken bytes end the count:
    the parser says what is wrong with them.
    """
    return _count(raw, 0, len(raw), nested, most)


def messages_in(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of an envelope, which holds nothing but messages: the number and the bytes of each.

    Raises ValueError where there is something else.
    """
    at = 0
    while at < len(raw):
        try:
            tag, at = _varint(raw, at)
            length, at = _varint(raw, at)
        except IndexError:
            raise ValueError("it ends within a field") from None
        if tag & 7 != 2 or at + length > len(raw):
            raise ValueError("a field is no message, or longer than the rest")
        yield tag >> 3, raw[at : at + length]
        at += length


def _count(raw: bytes, at: int, end: int, nested: bool, most: int) -> int:
    count = 0
    try:
        while at < end and count <= most:
            tag, at = _varint(raw, at)
            count += 1
            match tag & 7:
                case 0:
                    _, at = _varint(raw, at)
                case 1:
                    at += 8
                case 2:
                    length, at = _varint(raw, at)
                    if nested:
                        count += _count(raw, at, min(end, at + length), False, most - count)
                    at += length
                case 5:
                    at += 4
    except IndexError:
        pass
    return count


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends. Raises IndexError at the end of the bytes, or of a number."""
    value = raw[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for place in range(1, 10):
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at
    raise IndexError
