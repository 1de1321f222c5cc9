"""Time zones by their names in a request."""

import re
from datetime import UTC, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

_OFFSET = re.compile(r"([+-])([01]\d|2[0-3]):([0-5]\d)")


def zone_of(name: str) -> tzinfo | None:
    """The zone of this name, UTC without one; None when it is the name of none."""
    if not name:
        return UTC
    if found := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(found[2]), minutes=int(found[3]))
        return timezone(-offset if found[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # a folder of the database is no zone, and no name may lead out of it
        return None
