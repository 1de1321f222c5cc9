"""Ids that sort by the time they were made, and the form of API keys."""

import os
import secrets
import threading
import time
import zlib

_RAND_A_BITS, _RAND_B_BITS = 12, 62  # RFC 9562, section 5.7; taken as one counter
_RAND_B, _VARIANT = (1 << _RAND_B_BITS) - 1, 0b10 << _RAND_B_BITS
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
KEY_PREFIX = "rflx_"
TAG_LENGTH = 10
SECRET_LENGTH = 43
CHECKSUM_LENGTH = 6


class _Uuid7:
    """UUIDv7 whose values rise within the process (RFC 9562, section 6.2, method 2)."""

    def __init__(self) -> None:
        self._start_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._lock = threading.RLock()
        self._counting = False
        self._millis = 0
        self._counter = 0

    def next(self, count: int) -> list[str]:
        millis = time.time_ns() // 1_000_000
        with self._lock:
            if self._counting:  # this is a signal handler that came in between: its ids are left to chance
                first = _anywhere()
            else:
                self._counting = True
                try:
                    if millis > self._millis:
                        self._millis = millis
                        self._counter = _anywhere()
                    first = self._counter + 1
                    self._counter += count
                    millis = self._millis
                finally:
                    self._counting = False
        beginning = f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{first >> _RAND_B_BITS:03x}-"
        first = first & _RAND_B | _VARIANT
        ends = map("{:x}".format, range(first, first + count))
        return [f"{beginning}{end[:4]}-{end[4:]}" for end in ends]


def _anywhere() -> int:
    """Where to begin counting. The top bit of rand_b is 0, so that counting on never runs over into rand_a."""
    return secrets.randbits(_RAND_A_BITS + _RAND_B_BITS) & ~(1 << _RAND_B_BITS - 1)


_uuid7s = _Uuid7()


def uuid7() -> str:
    """A new UUIDv7 in text form; within one process each is greater than the one before."""
    return _uuid7s.next(1)[0]


def uuid7s(count: int) -> list[str]:
    """So many new UUIDv7s in rising order, for less than one after the other."""
    return _uuid7s.next(count)


def new_request_id(source: str = "") -> str:
    """A new request_id `<source>_<uuid7>`, so that `request_id.split("_")[0]` names the source.

    Underscores of the source become hyphens; without a source the prefix is "request".
    """
    return f"{source.replace('_', '-') or 'request'}_{uuid7()}"


def checksum(text: str) -> str:
    """CRC-32 of the text in six base-62 digits: it catches typing errors, it proves nothing."""
    number, digits = zlib.crc32(text.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits


def account_tag(api_key: str) -> str | None:
    """The public account tag in an API key, or None when the text is not a well-formed key.

    Form: `rflx_`, the tag of 10 characters, `_`, 43 characters of randomness, 6 of checksum over all before.
    """
    body, given = api_key[:-CHECKSUM_LENGTH], api_key[-CHECKSUM_LENGTH:]
    tag = body[len(KEY_PREFIX) : len(KEY_PREFIX) + TAG_LENGTH]
    expected_length = len(KEY_PREFIX) + TAG_LENGTH + 1 + SECRET_LENGTH
    if (
        len(body) != expected_length
        or not api_key.isascii()
        or not body.startswith(f"{KEY_PREFIX}{tag}_")
        or checksum(body) != given
    ):
        return None
    return tag
