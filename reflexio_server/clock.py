"""The time as it is stored everywhere."""

import time


def now_us() -> int:
    """Microseconds since the beginning of 1970, UTC, by this machine's clock."""
    return time.time_ns() // 1000
