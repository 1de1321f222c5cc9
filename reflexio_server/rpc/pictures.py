"""What a picture's first bytes say of it. Pictures are stored as they came and never decoded.

Sources: PNG Specification (Third Edition, W3C); GIF89a (CompuServe, 1990); RFC 9649 (WebP) and
RFC 6386 (VP8); ITU-T T.81 (JPEG). Every reader takes what its format's header says, in pixels, and
raises struct.error where the data end inside that header: read_header turns that into 0×0.
"""

import re
import struct
from dataclasses import dataclass

_MAX_PIXELS = 2**31 - 1
_UNKNOWN = (0, 0)

# 1,000 markers of at most 255 fill bytes, a code and a length: at most 256 KiB are looked at.
_JPEG_MAX_SEGMENTS = 1_000
_JPEG_MARKER = re.compile(rb"\xff{1,255}([^\x00\xff])", re.DOTALL)
# SOF0-SOF15 without DHT, JPG and DAC; DHP says how large a hierarchical picture is in the end.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xDE}
_JPEG_WITHOUT_LENGTH = frozenset(range(0xD0, 0xD8)) | {0x01}  # RST0-RST7, TEM
_JPEG_LAST = frozenset({0xD8, 0xD9, 0xDA})  # a second SOI, EOI, SOS


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """A picture's format and size, as its own header states them: nothing vouches for the pixels.

    `media_type` is "image/png", "image/jpeg", "image/webp", "image/gif", or
    "application/octet-stream" when the first bytes name none of these. `width` and `height` are
    pixels from 0 to 2**31-1; 0 where the header does not say.
    """

    media_type: str
    width: int
    height: int


def read_header(data: bytes) -> PictureHeader:
    """Read the format and the size in pixels of the picture in `data` from its headers alone.

    The first bytes alone decide the format, whatever follows them. A known format whose size cannot
    be read (truncated, damaged, too many segments) keeps its media type with 0×0; a single value
    above 2**31-1 becomes 0. Never raises; time and memory do not grow with the size of `data`.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        media_type, read = "image/png", _png_size
    elif data.startswith(b"\xff\xd8\xff"):
        media_type, read = "image/jpeg", _jpeg_size
    elif data.startswith((b"GIF87a", b"GIF89a")):
        media_type, read = "image/gif", _gif_size
    elif data.startswith(b"RIFF") and data.startswith(b"WEBP", 8):
        media_type, read = "image/webp", _webp_size
    else:
        return PictureHeader("application/octet-stream", 0, 0)
    try:
        width, height = read(data)
    except struct.error:
        width, height = _UNKNOWN
    return PictureHeader(media_type, _pixels(width), _pixels(height))


def _pixels(value: int) -> int:
    """Return `value`, or 0 if it is above what PNG §7.1 allows, the widest field of the four formats."""
    return value if value <= _MAX_PIXELS else 0


def _png_size(data: bytes) -> tuple[int, int]:
    """PNG §5.2 and §11.2.1: after 8 bytes of signature comes IHDR, 13 bytes long, width and height first."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    return (width, height) if (length, kind) == (13, b"IHDR") else _UNKNOWN


def _gif_size(data: bytes) -> tuple[int, int]:
    """GIF89a, sections 17 and 18: after 6 bytes of header, the logical screen's width and height."""
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649 §2.4: after 12 bytes of file header comes the first chunk; its name tells the kind."""
    kind, length = struct.unpack_from("<4sI", data, 12)
    if kind == b"VP8 " and length >= 10:
        return _vp8_size(data, 20)
    if kind == b"VP8L" and length >= 5:
        return _vp8l_size(data, 20)
    if kind == b"VP8X" and length >= 10:
        return _vp8x_size(data, 20)
    return _UNKNOWN


def _vp8_size(data: bytes, at: int) -> tuple[int, int]:
    """RFC 9649 §2.5, RFC 6386 §9.1: frame tag, start code, then 14 bits each under 2 bits of scale."""
    tag, start_code, width, height = struct.unpack_from("<B2x3sHH", data, at)
    is_key_frame = tag & 1 == 0 and start_code == b"\x9d\x01\x2a"
    return (width & 0x3FFF, height & 0x3FFF) if is_key_frame else _UNKNOWN


def _vp8l_size(data: bytes, at: int) -> tuple[int, int]:
    """RFC 9649 §2.6, §3.4: 0x2F; from the lowest bit, 14 of width-1, 14 of height-1, 1 alpha, 3 version."""
    signature, bits = struct.unpack_from("<BI", data, at)
    is_known = signature == 0x2F and bits >> 29 == 0
    return ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1) if is_known else _UNKNOWN


def _vp8x_size(data: bytes, at: int) -> tuple[int, int]:
    """RFC 9649 §2.7: 4 bytes of flags, then the canvas: 24 bits of width-1, 24 bits of height-1."""
    width_low, width_high, height_low, height_high = struct.unpack_from("<4xHBHB", data, at)
    return (width_high << 16 | width_low) + 1, (height_high << 16 | height_low) + 1


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """T.81 §B.1.1 and §B.2.2: follow the marker segments by their lengths to the first frame header.

    Nothing inside a segment is looked at, so a thumbnail in APPn is never taken for the picture. A
    height of 0 there is legal: the first scan ends with it (§B.2.5), out of a header's reach.
    """
    at = 2
    for _ in range(_JPEG_MAX_SEGMENTS):
        marker = _JPEG_MARKER.match(data, at)
        if marker is None:
            break
        code, at = marker[1][0], marker.end()
        if code in _JPEG_WITHOUT_LENGTH:
            continue
        if code < 0xC0 or code in _JPEG_LAST:  # reserved codes have no known layout
            break
        (length,) = struct.unpack_from(">H", data, at)
        if code in _JPEG_FRAMES and length >= 8:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        if length < 2 or code in _JPEG_FRAMES:
            break
        at += length
    return _UNKNOWN
