"""Whom and when a query names."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from reflexio.v1 import interaction_pb2 as noun
from reflexio_server import roles
from reflexio_server.core import naming
from reflexio_server.core.ranking import DAY
from reflexio_server.model import Filter, SearchQuery
from reflexio_server.storage.facts import ROW, Texts
from tests.support import Caller
from tests.wire import publish, timestamp

pytestmark = pytest.mark.store

Say = noun.InteractionData


def asked(query: str) -> SearchQuery:
    return SearchQuery("u", query, 10, 0.0, Filter())


def texts(*moments: datetime) -> Texts:
    rows = np.zeros(len(moments), dtype=ROW)
    rows["ref"] = np.arange(1, len(moments) + 1)
    rows["created_at"] = [round(moment.timestamp() * 10**6) for moment in moments]
    return Texts.of(rows)


@pytest.mark.parametrize(
    ("role", "query", "named"),
    [
        ("Caroline", "What did Caroline say?", True),
        ("caroline", "CAROLINE's trip", True),
        ("Support Agent", "what the agent promised", True),
        ("Dr. Ana María Pérez", "when did ana call", True),
        ("Dr. Ana María Pérez", "when did perez call", False),  # the fourth word
        ("Caroline", "What did Carolin say?", False),
        ("User", "a used car", False),
        ("It", "it is what it was", False),
        ("", "anything", False),
        ("小明", "小明上周说了什么", True),
        ("小明", "小红上周说了什么", False),
        ("สมชาย", "สมชายพูดว่าอะไร", True),
        ("민수", "민수가 뭐라고 했어", True),
        ("Каролина", "что сказала Каролина", True),
        ("José", "what jose\u0301 wanted", True),
    ],
)
def test_a_role_is_named_by_a_word_of_it(role: str, query: str, named: bool) -> None:
    found = naming.named_in(asked(query), texts()).roles
    assert bool(set(roles.numbers(role)) & set(found.tolist())) == named
    assert 0 not in found


def test_what_is_named_is_bounded() -> None:
    assert len(naming.named_in(asked("上" * 1300 + "海" * 60), texts()).roles) < 20_000
    assert len(roles.numbers("a b c d e f")) == roles.WORDS
    ages = texts(datetime(1, 1, 1, tzinfo=UTC), datetime.now(UTC))
    assert len(naming.named_in(asked("1 may " * 600), ages).times) < 100
    for query in ("31 December 9999", "1 January 0001", "0001-01-01", "9999-12-31", "in 9999"):
        naming.named_in(asked(query), ages)


def test_a_date_reaches_from_the_day_before_to_eight_days_after() -> None:
    ((begin, end),) = naming.named_in(asked("on 7 May 2023"), texts()).times.tolist()
    day = round(datetime(2023, 5, 7, tzinfo=UTC).timestamp() * 10**6)
    assert (begin, end) == (day - DAY, day + 9 * DAY)


def test_a_date_without_a_year_is_in_each_year_that_there_is() -> None:
    of_three_years = texts(datetime(2021, 2, 1, tzinfo=UTC), datetime(2023, 9, 1, tzinfo=UTC))
    found = naming.named_in(asked("on 7 May"), of_three_years).times
    days = [datetime.fromtimestamp((begin + DAY) / 10**6, UTC).date() for begin in found[:, 0].tolist()]
    assert sorted(str(day) for day in days) == ["2021-05-07", "2022-05-07", "2023-05-07"]


def test_yesterday_is_where_the_caller_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2024, 3, 1, 23, 30, tzinfo=UTC)  # in Tokyo it is the second
    monkeypatch.setattr(naming, "now_us", lambda: round(now.timestamp() * 10**6))
    begins = {}
    for name in ("UTC", "Asia/Tokyo", "America/New_York"):
        query = replace(asked("what I said yesterday"), zone=ZoneInfo(name))
        begins[name] = datetime.fromtimestamp(naming.named_in(query, texts()).times[0, 0] / 10**6, ZoneInfo(name))
    assert {name: str(begin.date()) for name, begin in begins.items()} == {
        "UTC": "2024-02-28",
        "Asia/Tokyo": "2024-02-29",
        "America/New_York": "2024-02-28",
    }
    assert all(begin.time().isoformat() == "00:00:00" for begin in begins.values())


def test_the_moment_is_found_by_who_and_when(caller: Caller) -> None:
    said = "We went to the lake and swam."
    for month in (3, 5, 9):
        moment = round(datetime(2023, month, 10, 12, tzinfo=UTC).timestamp() * 10**6)
        items = [Say(content=said, role=role, created_at=timestamp(moment)) for role in ("Ana", "Ben")]
        publish(caller, "u", *items, request_id=str(month))
    for query, wanted in (
        ("When did Ben swim in the lake on 10 May 2023?", ("5", "Ben")),
        ("Ana, the lake, September", ("9", "Ana")),
        ("what ana did at the lake in March 2023", ("3", "Ana")),
    ):
        best = caller.search(user_id="u", query=query).hits[0]
        assert (best.interaction.request_id, best.interaction.role) == wanted
        assert (best.role, best.time) == (1, 1)
    hits = caller.search(user_id="u", query="the lake").hits
    assert len(hits) == 6
    assert not any(hit.role or hit.time for hit in hits)


def test_relative_dates_are_those_of_the_time_zone(caller: Caller) -> None:
    now = datetime.now(UTC)
    for days in (1, 30):
        moment = round((now - timedelta(days=days)).timestamp() * 10**6)
        publish(caller, "u", Say(content="I paid the invoice.", created_at=timestamp(moment)), request_id=str(days))
    for zone in ("", "Europe/Berlin", "-10:00", "Pacific/Kiritimati"):
        hits = caller.search(user_id="u", query="the invoice I paid yesterday", time_zone=zone).hits
        assert [hit.interaction.request_id for hit in hits] == ["1", "30"]
        assert hits[0].time > 0.8 > hits[1].time
