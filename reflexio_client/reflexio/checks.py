"""Checks of single values before anything is sent. Each raises an InvalidArgumentError that names the field."""

import base64
import binascii
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Never

from google.protobuf.timestamp_pb2 import Timestamp

from reflexio.errors import InvalidArgumentError
from reflexio.models import UserActionType
from reflexio.v1 import interaction_pb2

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_US = -62_135_596_800_000_000  # 0001-01-01, the earliest a Timestamp can hold
_END_US = 253_402_300_800_000_000  # 10000-01-01
_MAX_UINT32 = 2**32 - 1
_LONGEST_SECONDS = 1e9  # 31 years: as good as for ever, and what threads and grpc can still wait for
_ACTIONS = ", ".join(UserActionType)
_PREFIX = "USER_ACTION_"


def refuse(field: str, description: str) -> Never:
    """Raise for one field; the description reads on from its name."""
    raise InvalidArgumentError(
        f"{field} {description}", code="", reason="INVALID_FIELD", violations=[(field, description)]
    )


def text(field: str, value: object, *, required: bool = False) -> str:
    """A text that can be stored; None counts as empty."""
    if value is None:
        value = ""
    if not isinstance(value, str):
        refuse(field, f"must be text, not {type(value).__name__}")
    if required and not value:
        refuse(field, "must not be empty")
    if "\0" in value:
        refuse(field, "holds the character U+0000, which cannot be stored: remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            refuse(field, f"holds half a surrogate pair at position {error.start}, which is not UTF-8: repair it")
    return value


def texts(field: str, value: object) -> list[str]:
    return [text(f"{field}[{i}]", item, required=True) for i, item in enumerate(items(field, value))]


def items(field: str, value: object) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        refuse(field, f"must be a list, not {type(value).__name__}")
    return value


def known_keys(where: str, given: Iterable[object], allowed: Iterable[str]) -> None:
    allowed = list(allowed)
    for key in given:
        if key not in allowed:
            refuse(where, f"has the unknown key {key!r}; allowed are {', '.join(allowed)}")


def mapping(where: str, value: object) -> Mapping[str, Any]:
    """A dict, or a pydantic model as one."""
    if not isinstance(value, Mapping) and callable(dump := getattr(value, "model_dump", None)):
        value = dump()
    if not isinstance(value, Mapping):
        refuse(where, f"must be a dict or a pydantic model, not {type(value).__name__}")
    return value


def count(field: str, value: object, most: int = _MAX_UINT32) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        refuse(field, f"must be a whole number, not {type(value).__name__}")
    number = int(value)
    if not 1 <= number <= most:
        refuse(field, f"must be from 1 to {most:,}, not {number}")
    return number


def score(field: str, value: object) -> float:
    if value is None:
        return 0.0
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        refuse(field, f"must be a number from 0 to 1, not {value!r}")
    return number


def seconds(field: str, value: object) -> float:
    """How long something may take: a number or a timedelta above 0."""
    number = _number(value.total_seconds() if isinstance(value, timedelta) else value)
    if number is None or not 0 < number < math.inf:
        refuse(field, f"must be a number of seconds above 0, not {value!r}")
    return min(number, _LONGEST_SECONDS)


def wait(field: str, value: object) -> float:
    """How long to wait for something: as `seconds`, or 0 to just look, or None for as long as it takes."""
    if value is None:
        return _LONGEST_SECONDS
    number = _number(value.total_seconds() if isinstance(value, timedelta) else value)
    if number is None or not 0 <= number < math.inf:
        refuse(field, f"must be a number of seconds from 0, or None for as long as it takes, not {value!r}")
    return min(number, _LONGEST_SECONDS)


def _number(value: object) -> float | None:
    """A number of whatever kind, of numpy's too; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):  # Decimal("sNaN"), 10**400
        return math.nan


def folder(field: str, value: object) -> Path:
    """A folder's absolute path, `~` being the user's home. Where no home is known, it still begins with `~`."""
    if not isinstance(value, str | bytes | os.PathLike):
        refuse(field, f"must be a path, not {type(value).__name__}")
    found = os.path.expanduser(os.fsdecode(value))
    if "\0" in found:
        refuse(field, "holds the character U+0000, which no path can hold")
    if found.startswith("~"):
        return Path(found)
    try:
        return Path(found).absolute()
    except OSError:
        refuse(field, f"is relative, and the current folder is gone: give an absolute path, not {value!r}")


def flag(field: str, value: object) -> bool:
    if value is not None and not isinstance(value, bool):
        refuse(field, f"must be True or False, not {type(value).__name__}")
    return bool(value)


def action(field: str, value: object) -> interaction_pb2.UserAction.ValueType:
    """A user action by its name in any case, with or without the contract's prefix, also as a member of an enum.

    None counts as NONE.
    """
    value = value.value if isinstance(value, Enum) else value
    name = "NONE" if value is None else value.upper().removeprefix(_PREFIX) if isinstance(value, str) else None
    if name not in UserActionType.__members__:
        refuse(field, f"must be one of {_ACTIONS}, not {value!r}")
    return interaction_pb2.UserAction.Value(f"{_PREFIX}{name}")


def image(field: str, value: object) -> bytes:
    """The bytes of a picture given as base64 text; None and "" count as no picture."""
    if value is None or value == "":
        return b""
    if not isinstance(value, str):
        refuse(field, "must be base64 text: base64.b64encode(data).decode()")
    if value.startswith("data:"):
        refuse(field, "must be base64 alone, not a data: URL; give what follows 'base64,'")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        refuse(field, f"is not base64 (standard alphabet, padded, no line breaks): {error}")


def microseconds(field: str, value: object) -> int:
    """A moment in Unix microseconds.

    A datetime or its ISO 8601 text (without an offset it is local time), a date (its first moment, local time), or
    Unix seconds.
    """
    moment = _of_iso_text(field, value) if isinstance(value, str) else value
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if isinstance(moment, datetime):
        try:
            if moment.utcoffset() is None:
                # Not by astimezone(): it is an hour off for a time that clocks set forward leave out.
                found = int(moment.replace(microsecond=0, tzinfo=None).timestamp()) * 1_000_000 + moment.microsecond
            else:
                found = (moment.astimezone(UTC) - _EPOCH) // _MICROSECOND
        except (OverflowError, ValueError, OSError):
            refuse(field, f"is a time that this system cannot convert to UTC: {value!r}")
    elif isinstance(moment, Integral) and not isinstance(moment, bool):
        found = int(moment) * 1_000_000
    elif (number := _number(moment)) is not None and math.isfinite(number):
        found = round(number * 1_000_000)
    else:
        refuse(field, f"must be a datetime, a date, ISO 8601 text or Unix seconds, not {value!r}")
    if not _FIRST_US <= found < _END_US:
        refuse(field, f"lies outside the years 1 to 9999; Unix seconds are meant, not milliseconds: {value!r}")
    return found


def _of_iso_text(field: str, value: str) -> datetime:
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        refuse(field, f"is neither ISO 8601 text, such as 2026-05-04T13:30:00+02:00, nor Unix seconds: {value!r}")


def timestamp(microseconds: int) -> Timestamp:
    seconds, rest = divmod(microseconds, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


def moment(field: str, value: object) -> Timestamp | None:
    return None if value is None else timestamp(microseconds(field, value))
