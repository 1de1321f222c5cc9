"""read_header: what the headers say, and no bytes that make it fail."""

import os
import random
import struct
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflexio_server.rpc.pictures import PictureHeader, read_header
from tools.pictures import JPEG_START, PNG_SIGNATURE, frame, gif, jpeg, png, png_header, segment, vp8x, webp

pytestmark = pytest.mark.store

OCTETS = "application/octet-stream"
MEDIA_TYPES = {"image/png", "image/jpeg", "image/webp", "image/gif", OCTETS}


def vp8(width: int, height: int, *, tag: int = 0x10, start_code: bytes = b"\x9d\x01\x2a") -> bytes:
    return webp(b"VP8 ", struct.pack("<B2x3sHH", tag, start_code, width, height) + bytes(200))


def vp8l(width: int, height: int, *, signature: int = 0x2F, version: int = 0) -> bytes:
    bits = (width - 1) | (height - 1) << 14 | 1 << 28 | version << 29
    return webp(b"VP8L", struct.pack("<BI", signature, bits) + bytes(201))


THUMBNAIL = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0" + jpeg(160, 120))
FILLED = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0", fill=3)

# Each picture with its size, and how many bytes it takes to know the format and then the size.
PICTURES = {
    "png": (png(31, 17), "image/png", 31, 17, 8, 24),
    "gif": (gif(320, 200), "image/gif", 320, 200, 6, 10),
    "vp8": (vp8(1023, 767), "image/webp", 1023, 767, 12, 30),
    "vp8l": (vp8l(16384, 1), "image/webp", 16384, 1, 12, 25),
    "vp8x": (vp8x(70000, 16_777_216), "image/webp", 70000, 16_777_216, 12, 30),
    "jpeg": (jpeg(640, 480), "image/jpeg", 640, 480, 3, 2 + 69 + 9),
    "jpeg fill": (jpeg(640, 480, before=FILLED), "image/jpeg", 640, 480, 3, 2 + 21 + 69 + 9),
    "jpeg thumbnail": (
        jpeg(4000, 3000, before=FILLED + THUMBNAIL),
        "image/jpeg",
        4000,
        3000,
        3,
        2 + 21 + len(THUMBNAIL) + 69 + 9,
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_reads_format_and_size(name: str) -> None:
    data, media_type, width, height, _, _ = PICTURES[name]
    assert read_header(data) == PictureHeader(media_type, width, height)


@pytest.mark.parametrize("name", PICTURES)
def test_truncated_anywhere(name: str) -> None:
    data, media_type, width, height, format_known, size_known = PICTURES[name]
    assert len(data) >= 200
    lengths = {*range(201), *range(size_known - 4, size_known + 4)}
    for length in sorted(lengths):
        expected = PictureHeader(OCTETS, 0, 0)
        if min(length, len(data)) >= format_known:
            expected = PictureHeader(media_type, 0, 0)
        if min(length, len(data)) >= size_known:
            expected = PictureHeader(media_type, width, height)
        assert read_header(data[:length]) == expected, length


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff\xd8", b"BM" + bytes(60), b"<svg/>", b"RIFF\0\0\0\0WAVEfmt ", b"GIF88a" + bytes(9)]
)
def test_other_bytes_are_octets(data: bytes) -> None:
    assert read_header(data) == PictureHeader(OCTETS, 0, 0)


@pytest.mark.parametrize(
    ("data", "width", "height"),
    [
        (png_header(2**31 - 1, 1), 2**31 - 1, 1),
        (png_header(2**31, 7), 0, 7),
        (png_header(7, 2**32 - 1), 7, 0),
        (png_header(0, 0), 0, 0),
        (png_header(7, 7, kind=b"CgBI"), 0, 0),
        (png_header(7, 7, length=12), 0, 0),
    ],
)
def test_png_bounds(data: bytes, width: int, height: int) -> None:
    assert read_header(data) == PictureHeader("image/png", width, height)


def test_gif_87a() -> None:
    assert read_header(gif(65535, 1, b"87a")) == PictureHeader("image/gif", 65535, 1)


@pytest.mark.parametrize(
    ("data", "width", "height"),
    [
        (vp8(0x4000 | 550, 0xC000 | 368), 550, 368),  # the two high bits are a scale for showing it
        (vp8(16383, 16383), 16383, 16383),
        (vp8(550, 368, tag=0x11), 0, 0),  # not a key frame
        (vp8(550, 368, start_code=b"\x9d\x01\x2b"), 0, 0),
        (vp8l(16384, 16384), 16384, 16384),
        (vp8l(2, 3, signature=0x2E), 0, 0),
        (vp8l(2, 3, version=1), 0, 0),
        (vp8x(1, 1), 1, 1),
        (webp(b"ALPH", bytes(30)), 0, 0),
        (webp(b"VP8X", bytes(30), length=9), 0, 0),
        (webp(b"VP8L", b"\x2f" + bytes(30), length=4), 0, 0),
    ],
)
def test_webp_kinds(data: bytes, width: int, height: int) -> None:
    assert read_header(data) == PictureHeader("image/webp", width, height)


@pytest.mark.parametrize("code", [0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), 0xCD, 0xCE, 0xCF])
def test_every_jpeg_frame_marker(code: int) -> None:
    assert read_header(jpeg(33, 44, code=code)) == PictureHeader("image/jpeg", 33, 44)


# Segments that look like a frame of 9×9 but are none: DHT, JPG, DAC, APPn, JPGn, COM.
@pytest.mark.parametrize("code", [0xC4, 0xC8, 0xCC, 0xE0, 0xE1, 0xEF, 0xF0, 0xFE])
def test_jpeg_segments_that_are_no_frame(code: int) -> None:
    before = frame(9, 9, code) + segment(code, jpeg(9, 9))
    assert read_header(jpeg(33, 44, before=before)) == PictureHeader("image/jpeg", 33, 44)


@pytest.mark.parametrize(
    ("before", "width", "height"),
    [
        (b"\xff\x01\xff\xd0\xff\xd7", 33, 44),  # TEM, RST0, RST7 have no length
        (frame(5, 6, 0xDE), 5, 6),  # a hierarchical picture's own size comes before its frames
        (frame(33, 0), 33, 0),  # the number of lines follows in a DNL segment
        (segment(0xFE, b"", fill=254), 33, 44),
        (segment(0xFE, b"", fill=255), 0, 0),
        (b"\xff\xfe\x00\x00", 0, 0),
        (b"\xff\xfe\x00\x01", 0, 0),
        (b"\xff\xc0\x00\x07" + bytes(5), 0, 0),  # a frame header too short for its size
        (b"\xff\x00", 0, 0),
        (b"\xff\x02\x00\x02", 0, 0),
        (b"\xff\xfe\x00\x02junk", 0, 0),
        (b"\xff\xd8", 0, 0),
        (b"\xff\xd9", 0, 0),
        (segment(0xDA, b"\x01\x01\x00\x00\x3f\x00"), 0, 0),
        (b"\xff\xfe\xff\xff", 0, 0),  # a length that ends far behind the data
    ],
)
def test_jpeg_walk(before: bytes, width: int, height: int) -> None:
    assert read_header(jpeg(33, 44, before=before)) == PictureHeader("image/jpeg", width, height)


def test_jpeg_frame_behind_a_large_colour_profile() -> None:
    profile = segment(0xE2, b"ICC_PROFILE\0" + bytes(65000)) * 9
    assert read_header(jpeg(33, 44, before=profile)) == PictureHeader("image/jpeg", 33, 44)


def test_jpeg_with_too_many_segments() -> None:
    empty = segment(0xFE, b"")
    assert read_header(jpeg(33, 44, before=empty * 998)) == PictureHeader("image/jpeg", 33, 44)
    assert read_header(jpeg(33, 44, before=empty * 999)) == PictureHeader("image/jpeg", 0, 0)
    assert read_header(jpeg(33, 44, before=empty * 10_000)) == PictureHeader("image/jpeg", 0, 0)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (gif(3, 2) + jpeg(33, 44) + png(5, 5), PictureHeader("image/gif", 3, 2)),
        (jpeg(33, 44) + b"PK\x03\x04" + bytes(30) + b"PK\x05\x06" + bytes(18), PictureHeader("image/jpeg", 33, 44)),
        (jpeg(33, 44, before=segment(0xFE, png(5, 5) + b"<script>")), PictureHeader("image/jpeg", 33, 44)),
        (PNG_SIGNATURE + jpeg(33, 44), PictureHeader("image/png", 0, 0)),
        (b"RIFF" + gif(3, 2)[:4] + b"WEBP" + jpeg(33, 44), PictureHeader("image/webp", 0, 0)),
        (b"GIF89a/*" + b"\0" * 8 + b"*/=1;", PictureHeader("image/gif", *struct.unpack("<HH", b"/*\0\0"))),
        (b"%PDF-1.7\n" + jpeg(33, 44), PictureHeader(OCTETS, 0, 0)),
    ],
)
def test_the_first_bytes_decide_for_a_polyglot(data: bytes, expected: PictureHeader) -> None:
    assert read_header(data) == expected


@pytest.mark.parametrize(
    "before",
    [
        b"\xff" * 2**24,
        b"\xff\x01" * 2**23,
        (b"\xff" * 254 + b"\xff\x01") * 2**16,
        segment(0xE1, bytes(65533)) * 256,
        bytes(2**24),
    ],
    ids=["fill", "no length", "fill before each", "large segments", "zeros"],
)
def test_time_and_memory_stay_small(before: bytes) -> None:
    data = JPEG_START + b"\xff" + before
    started = time.perf_counter()
    read_header(data)
    assert time.perf_counter() - started < 0.5
    tracemalloc.start()
    try:
        read_header(data)
        assert tracemalloc.get_traced_memory()[1] < 16 * 1024
    finally:
        tracemalloc.stop()


def check(data: bytes) -> None:
    header = read_header(data)
    assert header.media_type in MEDIA_TYPES
    assert 0 <= header.width < 2**31
    assert 0 <= header.height < 2**31
    assert header.media_type != OCTETS or (header.width, header.height) == (0, 0)


def test_random_bytes() -> None:
    seed = int(os.environ.get("IMAGES_SEED") or random.SystemRandom().getrandbits(32))
    print(f"IMAGES_SEED={seed}")
    source = random.Random(seed)
    for _ in range(20_000):
        junk = source.randbytes(source.randrange(300))
        check(junk)
        data = bytearray(source.choice([picture[0] for picture in PICTURES.values()])[:400])
        for _ in range(source.randrange(1, 6)):
            data[source.randrange(len(data))] = source.randrange(256)
        check(bytes(data))
        check(bytes(data[: source.randrange(len(data))]) + junk)


PREFIXES = st.sampled_from([picture[0] for picture in PICTURES.values()]).flatmap(
    lambda data: st.integers(0, min(len(data), 120)).map(lambda length: data[:length])
)
SEGMENTS = st.lists(
    st.builds(
        lambda fill, code, length, body: b"\xff" * fill + struct.pack(">BH", code, length) + body,
        st.integers(0, 4),
        st.integers(0, 255),
        st.integers(0, 40) | st.integers(0, 65535),
        st.binary(max_size=40),
    ),
    max_size=20,
).map(b"".join)


@given(PREFIXES, st.binary(max_size=300))
def test_any_prefix_with_junk(prefix: bytes, junk: bytes) -> None:
    check(prefix + junk)


@given(SEGMENTS)
def test_any_jpeg_segments(segments: bytes) -> None:
    check(JPEG_START + segments)
