"""N10, and the questionable 11 and 33: what people hand to publishing is taken, and what is not is named."""

import asyncio
import base64
import enum
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest

import reflexio
from reflexio import checks
from tests.client.scripted_server import KEY, ScriptedServer
from tests.support import Caller
from tools.pictures import png

MOMENT = datetime(2026, 5, 4, 13, 30, 15, 250_001, UTC)


@pytest.fixture
def client(caller: Caller) -> Iterator[reflexio.ReflexioClient]:
    with reflexio.ReflexioClient(caller.api_key, f"http://{caller.address}/") as client:
        yield client


@pytest.mark.parametrize(
    "given",
    [
        MOMENT,
        "2026-05-04T13:30:15.250001Z",
        "2026-05-04T13:30:15.250001+00:00",
        " 2026-05-04 15:30:15.250001+02:00\n",
        "20260504T133015.250001Z",
        MOMENT.astimezone(timezone(timedelta(hours=-5))).isoformat(),
        pd.Timestamp("2026-05-04T13:30:15.250001Z"),
        np.float64(MOMENT.timestamp()),
        Decimal("1777901415.250001"),
    ],
)
def test_a_moment_in_any_of_its_forms(given: Any) -> None:
    assert checks.microseconds("created_at", given) == round(MOMENT.timestamp() * 1e6)


def test_whole_seconds_and_days() -> None:
    for whole in (1_777_901_415, np.int64(1_777_901_415), np.uint32(1_777_901_415), Decimal(1_777_901_415)):
        assert checks.microseconds("t", whole) == 1_777_901_415_000_000
    midnight = round(datetime(2026, 5, 4).timestamp() * 1e6)
    assert {checks.microseconds("t", day) for day in (date(2026, 5, 4), "2026-05-04", datetime(2026, 5, 4))} == {
        midnight
    }


@pytest.mark.parametrize(
    "given",
    ["yesterday", "", "2026-13-01", "1777901415", True, np.True_, pd.NaT, float("nan"), Decimal("NaN"), [1], {}],
)
def test_what_is_no_moment_is_refused_by_its_field(given: Any) -> None:
    with pytest.raises(reflexio.InvalidArgumentError) as caught:
        checks.microseconds("interactions[0].created_at", given)
    assert caught.value.violations[0][0] == "interactions[0].created_at"


class Action(enum.Enum):
    TAP = "click"


class Turn(pydantic.BaseModel):
    role: str = "assistant"
    content: str
    user_action: Action | None = None
    created_at: datetime | None = None


class Thread(pydantic.BaseModel):
    user_id: str
    interactions: list[Turn]
    request_group: str | None = None


def test_pydantic_models(client: reflexio.ReflexioClient) -> None:
    turn = Turn(content="hello", user_action=Action.TAP, created_at=MOMENT)
    client.publish_interaction("ada", [turn, {"content": "hi"}], wait_for_response=True)
    client.publish_many(
        [Thread(user_id="ada", interactions=[turn], request_group="t"), {"user_id": "ada", "interactions": [turn]}]
    )
    found = [i for i in client.iter_interactions(user_id="ada") if i.content == "hello"]
    assert len(found) == 3
    assert {(i.role, i.user_action.value, i.created_at_us) for i in found} == {
        ("assistant", "CLICK", round(MOMENT.timestamp() * 1e6))
    }
    wrong = pydantic.create_model("Wrong", contnet=(str, "x"))()
    with pytest.raises(reflexio.InvalidArgumentError, match="unknown key 'contnet'"):
        client.publish_interaction("ada", [wrong])


def test_what_was_just_read_can_be_published(client: reflexio.ReflexioClient) -> None:
    picture = base64.b64encode(png(3, 2)).decode()
    given = {
        "role": "Agent",
        "content": "look",
        "image_encoding": picture,
        "user_action": "SCROLL",
        "user_action_description": "down",
        "interacted_image_url": "https://x.example/",
        "created_at": MOMENT,
    }
    client.publish_interaction("ada", [given], wait_for_response=True)
    (read,) = client.get_interactions(user_id="ada", include_images=True).interactions
    client.publish_interaction("bob", [read], wait_for_response=True)
    (copy,) = client.get_interactions(user_id="bob", include_images=True).interactions
    for field in (*given, "created_at_us"):
        assert getattr(copy, field) == getattr(read, field), field
    (without,) = client.get_interactions(user_id="ada").interactions
    with pytest.raises(reflexio.InvalidArgumentError, match="include_images=True"):
        client.publish_interaction("bob", [without])


def test_filters_take_the_same_moments(client: reflexio.ReflexioClient) -> None:
    client.publish_interaction("ada", [{"content": "x", "created_at": "2026-05-04T12:00:00"}], wait_for_response=True)
    spans: list[tuple[Any, Any]] = [
        (date(2026, 5, 4), date(2026, 5, 5)),
        ("2026-05-04", "2026-05-05"),
        (date(2026, 5, 5), None),
        (None, date(2026, 5, 4)),
    ]
    found = [
        len(client.get_interactions(user_id="ada", start_time=start, end_time=end).interactions) for start, end in spans
    ]
    assert found == [1, 1, 0, 0]


REQUESTS = [{"user_id": "ada", "interactions": [{"content": f"{i}"}]} for i in range(1500)]


def breaking(after: int, error: BaseException) -> Iterator[Any]:
    yield from REQUESTS[:after]
    raise error


@pytest.mark.parametrize("after", [0, 7, 1000, 1500])
def test_an_iterable_that_raises_costs_nothing_it_gave_before(after: int) -> None:
    server = ScriptedServer()
    server.start()
    with reflexio.ReflexioClient(KEY, server.url) as client:
        with pytest.raises(reflexio.BulkInterruptedError, match=f"raised ValueError after {after:,}") as caught:
            client.publish_many(breaking(after, ValueError("no more")))
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.result.requests.stored == after
        assert server.stored_contents() == [f"{i}" for i in range(after)]
        with pytest.raises(KeyboardInterrupt):
            client.publish_many(breaking(3, KeyboardInterrupt()))
        with pytest.raises(reflexio.InvalidArgumentError, match="requests must be an iterable"):
            client.publish_many(5)  # type: ignore[arg-type]
    server.stop()


def test_an_async_iterable_that_raises() -> None:
    async def items() -> AsyncIterator[Any]:
        for request in REQUESTS[:1001]:
            yield request
        raise OSError("the file ended")

    async def main(server: ScriptedServer) -> reflexio.BulkResult:
        async with reflexio.AsyncReflexioClient(KEY, server.url) as client:
            with pytest.raises(reflexio.BulkInterruptedError) as caught:
                await client.publish_many(items())
            return caught.value.result

    server = ScriptedServer()
    server.start()
    assert asyncio.run(main(server)).requests.stored == 1001
    server.stop()
