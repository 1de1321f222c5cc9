"""What moment a datetime means: aware ones their own, naive ones the local time, also when clocks are set."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from reflexio import checks, convert
from reflexio.errors import InvalidArgumentError
from reflexio.requests import GetInteractionsRequest, GetRequestsRequest, SearchInteractionsRequest

NEW_YORK, LORD_HOWE = "America/New_York", "Australia/Lord_Howe"  # the latter's clocks are set by half an hour


@pytest.fixture
def live_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def move(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def utc(*fields: int) -> int:
    return round(datetime(*fields, tzinfo=UTC).timestamp() * 1_000_000)  # type: ignore[misc,arg-type]


CASES = [
    # An ordinary day, and the year's other half.
    (NEW_YORK, datetime(2026, 1, 15, 12), utc(2026, 1, 15, 17)),
    (NEW_YORK, datetime(2026, 7, 15, 12), utc(2026, 7, 15, 16)),
    # 1:30 comes twice on 1 November 2026: in summer time first, then an hour later.
    (NEW_YORK, datetime(2026, 11, 1, 1, 30), utc(2026, 11, 1, 5, 30)),
    (NEW_YORK, datetime(2026, 11, 1, 1, 30, fold=1), utc(2026, 11, 1, 6, 30)),
    # 2:30 never comes on 8 March 2026; PEP 495: fold=0 counts on from before the change, fold=1 back from after it.
    (NEW_YORK, datetime(2026, 3, 8, 2, 30), utc(2026, 3, 8, 7, 30)),
    (NEW_YORK, datetime(2026, 3, 8, 2, 30, fold=1), utc(2026, 3, 8, 6, 30)),
    (LORD_HOWE, datetime(2026, 4, 5, 1, 45), utc(2026, 4, 4, 14, 45)),
    (LORD_HOWE, datetime(2026, 4, 5, 1, 45, fold=1), utc(2026, 4, 4, 15, 15)),
]


@pytest.mark.parametrize(("zone", "moment", "expected"), CASES)
def test_naive_is_local_time(live_in: Callable[[str], None], zone: str, moment: datetime, expected: int) -> None:
    live_in(zone)
    assert checks.microseconds("t", moment) == expected
    assert checks.microseconds("t", moment.replace(microsecond=7)) == expected + 7


@pytest.mark.parametrize(("zone", "moment", "expected"), CASES)
def test_aware_is_kept_wherever_one_lives(
    live_in: Callable[[str], None], zone: str, moment: datetime, expected: int
) -> None:
    for home in ("UTC", "Asia/Kathmandu", zone):
        live_in(home)
        assert checks.microseconds("t", moment.replace(tzinfo=ZoneInfo(zone))) == expected
    fixed = timezone(timedelta(hours=-9, minutes=-30, seconds=-1))
    there = datetime.fromtimestamp(expected // 1_000_000, fixed)
    assert checks.microseconds("t", there) == expected


def test_filters_take_them_as_bounds(live_in: Callable[[str], None]) -> None:
    live_in(NEW_YORK)
    start, end = datetime(2026, 11, 1, 1, 30), datetime(2026, 11, 1, 1, 30, fold=1)
    messages: list[Any] = [
        convert.search_message(SearchInteractionsRequest(start_time=start, end_time=end)).filter,
        convert.get_message(GetInteractionsRequest(start_time=start, end_time=end)).filter,
        convert.get_requests_message(GetRequestsRequest(user_id="u", start_time=start, end_time=end)),
    ]
    for message in messages:
        assert message.end_time.seconds - message.start_time.seconds == 3600
        assert message.start_time.seconds * 1_000_000 == utc(2026, 11, 1, 5, 30)


class Nowhere(tzinfo):
    """A zone that does not know its offset: such a datetime is naive."""

    def utcoffset(self, _moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


def test_odd_and_far_times(live_in: Callable[[str], None]) -> None:
    live_in(NEW_YORK)
    assert checks.microseconds("t", datetime(2026, 1, 15, 12, tzinfo=Nowhere())) == utc(2026, 1, 15, 17)
    assert checks.microseconds("t", datetime(1, 1, 1, tzinfo=UTC)) == -62_135_596_800_000_000
    assert checks.microseconds("t", datetime.max.replace(tzinfo=UTC)) == 253_402_300_799_999_999
    for far in (
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=ZoneInfo(NEW_YORK)),
    ):
        with pytest.raises(InvalidArgumentError, match="start_time"):
            checks.microseconds("start_time", far)
