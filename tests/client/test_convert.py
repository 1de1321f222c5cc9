import base64
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from reflexio import checks, convert
from reflexio.errors import InvalidArgumentError
from reflexio.models import InteractionData, UserActionType
from reflexio.outcomes import PublishRequest
from reflexio.requests import GetInteractionsRequest, SearchInteractionsRequest
from reflexio.v1 import interaction_pb2
from reflexio.v1 import interaction_service_pb2 as pb


def publish(*interactions: Any, user_id: Any = "ada", **rest: Any) -> pb.PublishInteractionsRequest:
    return convert.publish_message(PublishRequest(user_id, list(interactions), **rest))


def refused(*interactions: Any, **rest: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidArgumentError) as caught:
        publish(*interactions, **rest)
    assert isinstance(caught.value, ValueError)
    assert caught.value.violations[0][0] in str(caught.value)
    return caught.value.violations


def test_dicts_and_objects_are_the_same() -> None:
    picture = base64.b64encode(b"\x89PNG").decode()
    fields: dict[str, Any] = {
        "role": "Agent",
        "content": "hello",
        "image_encoding": picture,
        "user_action": "click",
        "user_action_description": "clicked",
        "interacted_image_url": "https://x.example/",
        "created_at": 1_700_000_000,
    }
    rest = {"request_id": "r", "source": "s", "agent_version": "v", "request_group": "g"}
    message = publish(fields, **rest)
    assert message == publish(InteractionData(**fields), **rest)
    (data,) = message.interactions
    assert data.image == b"\x89PNG"
    assert data.user_action == interaction_pb2.USER_ACTION_CLICK
    assert data.created_at.seconds == 1_700_000_000
    assert (message.request_group, message.source, message.agent_version) == ("g", "s", "v")


def test_absent_and_none_take_the_defaults() -> None:
    for given in (
        {"content": "x"},
        dict.fromkeys(["role", "image_encoding", "user_action", "created_at"]) | {"content": "x"},
    ):
        (data,) = publish(given).interactions
        assert (data.role, data.user_action, data.image) == ("User", interaction_pb2.USER_ACTION_NONE, b"")


def test_time_is_stamped_unless_the_caller_brings_a_request_id() -> None:
    before = datetime.now(UTC)
    (data, own) = publish({"content": "x"}, {"content": "y", "created_at": 5}).interactions
    assert (
        before
        <= data.created_at.ToDatetime(UTC) + timedelta(microseconds=1)
        <= datetime.now(UTC) + timedelta(seconds=1)
    )
    assert own.created_at.seconds == 5
    message = publish({"content": "x"}, request_id="mine")
    assert message.request_id == "mine"
    assert not message.interactions[0].HasField("created_at")
    assert message == publish({"content": "x"}, request_id="mine")


def test_request_ids_are_made_from_the_source() -> None:
    assert publish({"content": "x"}, source="support_chat").request_id.startswith("support-chat_")


@pytest.mark.parametrize(
    ("interaction", "field", "text"),
    [
        ({"contnet": "x"}, "interactions[0]", "'contnet'; allowed are role, content, image_encoding"),
        ({"user_action": "DRAG"}, "interactions[0].user_action", "NONE, CLICK, SCROLL, TYPE, not 'DRAG'"),
        ({"user_action": 1}, "interactions[0].user_action", "NONE, CLICK"),
        ({"image_encoding": "not base64!"}, "interactions[0].image_encoding", "is not base64"),
        ({"image_encoding": "YWJ"}, "interactions[0].image_encoding", "is not base64"),
        ({"image_encoding": "YWJj\nYWJj"}, "interactions[0].image_encoding", "line breaks"),
        ({"image_encoding": "ä"}, "interactions[0].image_encoding", "is not base64"),
        ({"image_encoding": b"YWJj"}, "interactions[0].image_encoding", "base64 text"),
        ({"image_encoding": "data:image/png;base64,YWJj"}, "interactions[0].image_encoding", "data: URL"),
        ({"content": "a\0b"}, "interactions[0].content", "U+0000"),
        ({"content": "a\ud800b"}, "interactions[0].content", "position 1"),
        ({"content": 5}, "interactions[0].content", "must be text, not int"),
        ({"content": "x", "created_at": "today"}, "interactions[0].created_at", "Unix seconds"),
        ({"content": "x", "created_at": True}, "interactions[0].created_at", "Unix seconds"),
        ({"content": "x", "created_at": float("nan")}, "interactions[0].created_at", "Unix seconds"),
        ({"content": "x", "created_at": 1_700_000_000_000}, "interactions[0].created_at", "milliseconds"),
        ({"role": "User"}, "interactions[0]", "is empty"),
        ("hello", "interactions[0]", "must be a dict or a pydantic model, not str"),
    ],
)
def test_what_cannot_be_sent_names_the_field(interaction: Any, field: str, text: str) -> None:
    ((found, description),) = refused(interaction)
    assert found == field
    assert text in description


def test_all_wrong_interactions_are_named() -> None:
    found = refused({"content": "good"}, {}, {"bad": 1}, *[{} for _ in range(30)])
    assert [field for field, _ in found[:2]] == ["interactions[1]", "interactions[2]"]
    assert len(found) == 20


@pytest.mark.parametrize("given", ["text", {"content": "x"}, iter([{"content": "x"}]), 5])
def test_interactions_must_be_a_list(given: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="interactions must be a list"):
        convert.publish_message(PublishRequest("ada", given))


def test_empty_user_and_empty_list_are_refused() -> None:
    assert refused({"content": "x"}, user_id="") == [("user_id", "must not be empty")]
    assert refused({"content": "x"}, user_id=None) == [("user_id", "must not be empty")]
    assert refused()[0][0] == "interactions"


def test_too_large_for_one_message_is_refused_before_sending() -> None:
    picture = base64.b64encode(bytes(6 << 20)).decode()
    with pytest.raises(InvalidArgumentError, match="use several requests") as caught:
        publish(*[{"image_encoding": picture}] * 3)
    assert caught.value.reason == "LIMIT_EXCEEDED"
    assert int(caught.value.metadata["count"]) > int(caught.value.metadata["maximum"])


def test_times_are_exact_to_the_microsecond() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, 123457, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    exact = checks.microseconds("t", moment)
    assert exact == 1_772_580_967_123_457
    assert checks.microseconds("t", moment.astimezone().replace(tzinfo=None)) == exact, "naive is local time"
    assert checks.microseconds("t", 1.5) == 1_500_000
    assert checks.microseconds("t", datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)) == -1
    stamp = checks.timestamp(-1)
    assert (stamp.seconds, stamp.nanos) == (-1, 999_999_000)


def test_stored_interactions_are_read_back() -> None:
    message = interaction_pb2.Interaction(
        interaction_id="i",
        sequence=7,
        user_id="ada",
        user_action=interaction_pb2.USER_ACTION_SCROLL,
        created_at=checks.timestamp(-1),
        stored_at=checks.timestamp(1_500_000),
        image=interaction_pb2.Image(sha256=b"\x01\xff", media_type="image/png", width=1, height=2, size_bytes=3),
    )
    found = convert.interaction(message)
    assert (found.created_at, found.created_at_us, found.stored_at, found.stored_at_us) == (-1, -1, 1, 1_500_000)
    assert found.user_action is UserActionType.SCROLL
    assert found.image is not None
    assert (found.image.sha256, found.image_encoding) == ("01ff", None)
    message.image.data = b"abc"
    assert convert.interaction(message).image_encoding == "YWJj"
    message.user_action = 99  # type: ignore[assignment]
    assert convert.interaction(message).user_action is UserActionType.NONE


def test_user_action_prints_its_name() -> None:
    assert f"{UserActionType.CLICK} {UserActionType('TYPE').value}" == "CLICK TYPE"


def test_filters_reach_the_message() -> None:
    message = convert.search_message(
        SearchInteractionsRequest(
            user_id="ada",
            query="q",
            top_k=3,
            min_score=0.25,
            request_id="r",
            request_group="g",
            sources=["s"],
            roles=("User",),
            user_actions=["click", UserActionType.TYPE],
            agent_version="v",
            start_time=1,
            end_time=datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC),
            most_recent_k=5,
            include_images=True,
        )
    )
    only = message.filter
    assert (message.user_id, message.query, message.top_k, message.min_score) == ("ada", "q", 3, 0.25)
    assert (only.request_id, only.request_group, only.agent_version, only.most_recent_k) == ("r", "g", "v", 5)
    assert (list(only.sources), list(only.roles)) == (["s"], ["User"])
    assert list(only.user_actions) == [interaction_pb2.USER_ACTION_CLICK, interaction_pb2.USER_ACTION_TYPE]
    assert (only.start_time.seconds, only.end_time.seconds) == (1, 2)
    assert message.include_images


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"user_id": ""}, "user_id"),
        ({"sources": "chat"}, "sources"),
        ({"roles": [""]}, "roles[0]"),
        ({"user_actions": ["hover"]}, "user_actions[0]"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2**40}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"min_score": 1.5}, "min_score"),
        ({"min_score": float("nan")}, "min_score"),
        ({"most_recent_k": 0}, "most_recent_k"),
        ({"start_time": "now"}, "start_time"),
        ({"include_images": "yes"}, "include_images"),
        ({"query": "\ud800"}, "query"),
    ],
)
def test_a_wrong_search_names_the_field(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        convert.search_message(SearchInteractionsRequest(**fields))
    assert caught.value.violations[0][0] == field


def test_no_user_means_the_whole_account_and_ids_exclude_a_filter() -> None:
    message = convert.get_message(GetInteractionsRequest(interaction_ids=["a"]))
    assert not message.HasField("user_id")
    assert not message.HasField("filter")
    with pytest.raises(InvalidArgumentError, match="'newest' or 'oldest'"):
        convert.get_message(GetInteractionsRequest(order="up"))  # type: ignore[arg-type]
