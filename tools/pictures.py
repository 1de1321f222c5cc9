"""Pictures made byte by byte: ordinary ones, and hostile ones, which must never be decoded to be stored."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable

MIB = 1024 * 1024
MOST = 8 * MIB  # bytes of one picture
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, *chunks: bytes) -> bytes:
    """A picture of 8 bits of grey whose pixels are whatever these chunks hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return PNG_SIGNATURE + png_chunk(b"IHDR", header) + b"".join(chunks) + png_chunk(b"IEND", b"")


def png(width: int, height: int) -> bytes:
    rows = b"".join(b"\0" + bytes((x * y) % 251 for x in range(width)) for y in range(height))
    return png_of(width, height, png_chunk(b"IDAT", zlib.compress(rows)))


def png_header(width: int, height: int, kind: bytes = b"IHDR", length: int = 13) -> bytes:
    return PNG_SIGNATURE + struct.pack(">I4sIIBBBBB", length, kind, width, height, 8, 0, 0, 0, 0) + bytes(4)


GIF_FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"


def gif(width: int, height: int, version: bytes = b"89a", frames: bytes = GIF_FRAME) -> bytes:
    """A screen of two colours with one pixel drawn on it, and a comment to give it length."""
    screen = b"GIF" + version + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    comment = b"\x21\xfe\xf0" + b"c" * 240 + b"\0"
    return screen + comment + frames + b"\x3b"


def webp(kind: bytes, payload: bytes, length: int | None = None) -> bytes:
    chunk = kind + struct.pack("<I", len(payload) if length is None else length) + payload
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def vp8x(width: int, height: int, rest: bytes = b"VP8L" + struct.pack("<I", 200) + bytes(200)) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\x10\0\0\0" + canvas) + rest


def segment(code: int, body: bytes, *, fill: int = 0) -> bytes:
    """A segment of a JPEG, after `fill` more bytes 0xFF than it needs."""
    return b"\xff" * fill + struct.pack(">BBH", 0xFF, code, len(body) + 2) + body


def frame(width: int, height: int, code: int = 0xC0) -> bytes:
    return segment(code, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00")


def scan(width: int, height: int) -> bytes:
    """A black picture: tables whose only code is the bit 0, so each 8×8 block is two zero bits."""
    blocks = -(-width // 8) * -(-height // 8)
    table = bytes([1]) + bytes(15) + b"\0"
    return (
        segment(0xC4, b"\x00" + table)
        + segment(0xC4, b"\x10" + table)
        + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + bytes(-(-blocks * 2 // 8))
        + b"\xff\xd9"
    )


QUANTISATION = segment(0xDB, b"\0" + b"\1" * 64)


def jpeg(width: int, height: int, *, before: bytes = b"", code: int = 0xC0) -> bytes:
    return JPEG_START + before + QUANTISATION + frame(width, height, code) + scan(width, height)


def _bomb() -> bytes:
    """A quarter of a gigabyte of zeros, in 256 KiB."""
    squeezed = zlib.compressobj(9)
    return b"".join(squeezed.compress(bytes(MIB)) for _ in range(256)) + squeezed.flush()


def _scans() -> bytes:
    """A progressive picture that is to be gone through 50,000 times."""
    again = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + b"\0"
    return JPEG_START + QUANTISATION + frame(65535, 65535, 0xC2) + again * 50_000 + b"\xff\xd9"


def _filled(start: bytes, with_: bytes) -> bytes:
    """As large as a picture may be."""
    return (start + with_ * (MOST // len(with_)))[:MOST]


ZIP_END = b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18)
SCRIPT = b"<script>alert(document.cookie)</script>"
_LAUGHS = b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'ha'>" + b"".join(
    f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>".encode() for n in range(9)
)
_LOOP = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + b"\x01\0" + bytes(12) + b"\x08\0\0\0")  # an IFD that comes next

HOSTILE: dict[str, Callable[[], bytes]] = {
    "png of 256 KiB that inflates to 256 MiB": lambda: png_of(16384, 16384, png_chunk(b"IDAT", _bomb())),
    "png whose text inflates to 256 MiB": lambda: png_of(1, 1, png_chunk(b"zTXt", b"a\0\0" + _bomb())),
    "png whose colour profile inflates to 256 MiB": lambda: png_of(1, 1, png_chunk(b"iCCP", b"a\0\0" + _bomb())),
    "png of 100,000 frames": lambda: png_of(
        9999, 9999, png_chunk(b"acTL", struct.pack(">II", 100_000, 0)), png_chunk(b"fcTL", bytes(26)) * 100_000
    ),
    "png of 500,000 empty chunks": lambda: png_of(1, 1, png_chunk(b"tEXt", b"") * 500_000),
    "gif of 65535×65535 and 300,000 frames": lambda: gif(65535, 65535, frames=GIF_FRAME * 300_000),
    "gif of 8 MiB that never ends a frame": lambda: _filled(gif(9, 9)[:-1] + b"\x2c" + bytes(9) + b"\x08", b"\xff"),
    "webp of 16,777,216×16,777,216": lambda: vp8x(1 << 24, 1 << 24),
    "webp of 300,000 frames": lambda: vp8x(1 << 24, 1 << 24, (b"ANMF" + struct.pack("<I", 16) + bytes(16)) * 300_000),
    "jpeg of 65535×65535 in 86 bytes": lambda: JPEG_START + QUANTISATION + frame(65535, 65535) + b"\xff\xd9",
    "jpeg of 50,000 scans": _scans,
    "jpeg of 8 MiB of fill bytes": lambda: _filled(JPEG_START, b"\xff"),
    "jpeg of 8 MiB of empty comments": lambda: _filled(JPEG_START, segment(0xFE, b"")),
    "jpeg of 8 MiB of restart markers": lambda: _filled(JPEG_START, b"\xff\xd0"),
    "jpeg whose Exif refers to itself": lambda: jpeg(8, 8, before=_LOOP * 100),
    "jpeg with thumbnails in thumbnails": lambda: jpeg(8, 8, before=segment(0xE1, b"Exif\0\0" + jpeg(9, 9) * 100)),
    "png cut after its signature": lambda: PNG_SIGNATURE,
    "png cut in its header": lambda: png(3, 3)[:20],
    "jpeg cut in its frame": lambda: jpeg(8, 8)[:76],
    "gif cut in its screen": lambda: gif(3, 3)[:8],
    "webp cut in its header": lambda: vp8x(3, 3)[:23],
    "png of 0×0": lambda: png_header(0, 0),
    "png of 4,294,967,295×4,294,967,295": lambda: png_header(2**32 - 1, 2**32 - 1),
    "png whose header is 2 GiB long": lambda: png_header(8, 8, length=2**31 - 1),
    "png with a chunk of 2 GiB": lambda: png(3, 3)[:33] + struct.pack(">I4s", 2**31 - 1, b"IDAT") + bytes(99),
    "webp with a chunk of 4 GiB": lambda: webp(b"VP8X", bytes(30), length=2**32 - 1),
    "jpeg with a segment beyond its end": lambda: JPEG_START + b"\xff\xe1\xff\xff" + bytes(9),
    "jpeg without lines": lambda: jpeg(33, 0),
    "png that is a zip": lambda: png(3, 3) + ZIP_END,
    "gif that is a script": lambda: b"GIF89a/*" + b"\0" * 8 + b"*/=1;alert(1)",
    "jpeg that is a web page": lambda: jpeg(8, 8, before=segment(0xFE, b"-->" + SCRIPT)),
    "jpeg with PHP in its Exif": lambda: jpeg(8, 8, before=segment(0xE1, b"Exif\0\0<?php system($_GET[0]); ?>")),
    "pdf with a jpeg in it": lambda: b"%PDF-1.7\n" + jpeg(8, 8),
    "svg with a script": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'>" + SCRIPT + b"</svg>",
    "svg of a billion laughs": lambda: _LAUGHS + b"]><svg>&j;</svg>",
    "svg with a file of the server": lambda: b"<!DOCTYPE s [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><svg>&f;</svg>",
    "html": lambda: b"<!doctype html>" + SCRIPT,
    "gzip of a gzip of 256 MiB": lambda: gzip.compress(gzip.compress(_bomb())),
    "program": lambda: b"MZ" + bytes(510),
    "shell script": lambda: b"#!/bin/sh\nrm -rf /\n",
    "one zero byte": lambda: b"\0",
    "8 MiB of zeros": lambda: bytes(MOST),
    "8 MiB of noise": lambda: random.Random(8).randbytes(MOST),
    "8 MiB and a byte": lambda: _filled(PNG_SIGNATURE, b"\0") + b"\0",
}
"""By what is wrong with it. Only the last, over the limit, is refused."""
