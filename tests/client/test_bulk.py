import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import bulk
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import ScriptedServer, fail, info, retry_after, verdict

Code = grpc.StatusCode
STREAM = "PublishInteractionStream"


def items(number: int, **rest: Any) -> Iterator[dict[str, Any]]:
    for i in range(number):
        yield {"user_id": f"u{i % 7}", "interactions": [{"content": str(i)}, {"content": "b"}], **rest}


def sizes(server: ScriptedServer) -> list[int]:
    return [len(sent) for sent in server.sent(STREAM)]


def test_segments_and_counts(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    seen: list[reflexio.BulkProgress] = []
    result = client.publish_many(items(2_500, source="import_run"), on_progress=seen.append)
    assert result.requests == reflexio.Counts(stored=2_500)
    assert result.interactions == reflexio.Counts(stored=5_000)
    assert result.rejections == []
    assert sizes(server) == [1000, 1000, 500]
    assert [p.requests.stored for p in seen] == [1000, 2000, 2500]
    assert seen[0].interactions.stored == 2000
    assert all(r.request_id.startswith("import-run_") for r in server.requests.values())
    assert all(r.interactions[0].HasField("created_at") for r in server.requests.values())


def test_nothing_to_publish(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    assert client.publish_many([]) == reflexio.BulkResult()
    assert server.calls == []


def test_objects_and_ids_of_ones_own(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    request = reflexio.PublishRequest("ada", [reflexio.InteractionData(content="x")], "g", "s", "v", "mine")
    assert client.publish_many([request]).requests.stored == 1
    assert client.publish_many([request]).requests.duplicate == 1
    first, second = server.sent(STREAM)
    assert first == second
    assert (first[0].request_id, first[0].request_group, first[0].agent_version) == ("mine", "g", "v")


def test_what_is_wrong_here_costs_no_neighbour(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    good = {"user_id": "ada", "interactions": [{"content": "x"}]}
    wrong: list[Any] = [
        {"user_id": "ada", "interactions": [{"image_encoding": "?"}], "request_id": "pic"},
        {"user_id": "", "interactions": [{"content": "x"}, {"content": "y"}]},
        {"user_id": "ada"},
        {"user_id": "ada", "interactions": [{"content": "x"}], "wait": True},
        "nonsense",
    ]
    result = client.publish_many([good, *wrong, good])
    assert result.requests == reflexio.Counts(stored=2, rejected=5)
    assert result.interactions == reflexio.Counts(stored=2, rejected=4)
    assert [(r.index, r.request_id, r.field) for r in result.rejections] == [
        (1, "pic", "interactions[0].image_encoding"),
        (2, "", "user_id"),
        (3, "", "interactions"),
        (4, "", "the request"),
        (5, "", "the request"),
    ]
    assert all(r.reason == "INVALID_FIELD" and r.message for r in result.rejections)
    assert sizes(server) == [2]


def test_the_servers_rejections_count_from_the_beginning(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    server.script(STREAM, verdict(1000), verdict(498, 1, (3, "LIMIT_EXCEEDED")))
    result = client.publish_many(items(1_500))
    assert result.requests == reflexio.Counts(1498, 1, 1)
    (rejection,) = result.rejections
    assert (rejection.index, rejection.reason, rejection.message) == (1003, "LIMIT_EXCEEDED", "refused 3")
    assert rejection.request_id == server.sent(STREAM)[1][3].request_id


def test_a_broken_connection_is_resumed(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    def half(sent: Any, context: grpc.ServicerContext) -> Any:
        for request in sent[:400]:
            server.store(request)
        return fail(Code.UNAVAILABLE, "gone")(sent, context)

    server.script(STREAM, half, fail(Code.RESOURCE_EXHAUSTED, "busy", retry_after(0.05)))
    result = client.publish_many(items(1_000))
    assert result.requests == reflexio.Counts(stored=600, duplicate=400)
    assert len(server.requests) == 1_000


@pytest.mark.parametrize("end", [pb.END_REASON_IDLE, pb.END_REASON_DRAINING])
def test_the_rest_goes_into_another_stream(
    server: ScriptedServer, client: reflexio.ReflexioClient, end: pb.EndReason.ValueType
) -> None:
    server.script(STREAM, verdict(6, 0, (2, "INVALID_FIELD"), end=end))
    result = client.publish_many(items(10))
    assert result.requests == reflexio.Counts(stored=9, rejected=1)
    assert sizes(server) == [10, 3]
    assert result.rejections[0].index == 2


def test_giving_up_tells_what_was_done(
    server: ScriptedServer, client: reflexio.ReflexioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_ATTEMPTS", 3)
    server.script(STREAM, verdict(1000))
    server.always(STREAM, fail(Code.INTERNAL, "gone"))
    with pytest.raises(reflexio.BulkInterruptedError, match=r"after 1,000 settled requests: .*gone") as caught:
        client.publish_many(items(1_500))
    assert caught.value.result.requests.stored == 1000
    assert isinstance(caught.value.__cause__, reflexio.InternalError)
    assert server.count(STREAM) == 4


def test_giving_up_after_the_timeout(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always(STREAM, fail(Code.UNAVAILABLE, "gone", retry_after(2)))
    with pytest.raises(reflexio.BulkInterruptedError):
        client.publish_many(items(5), timeout=0.5)
    assert server.count(STREAM) == 1


def test_a_refused_key_is_not_repeated(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always(STREAM, fail(Code.UNAUTHENTICATED, "no such key", info("UNAUTHENTICATED")))
    with pytest.raises(reflexio.BulkInterruptedError) as caught:
        client.publish_many(items(5))
    assert isinstance(caught.value.__cause__, reflexio.AuthenticationError)
    assert server.count(STREAM) == 1


def test_the_one_too_large_is_found(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    def too_large(sent: Any, context: grpc.ServicerContext) -> Any:
        if any(r.interactions[0].content == "77" for r in sent):
            return fail(Code.RESOURCE_EXHAUSTED, "larger than max")(sent, context)
        for request in sent:
            server.store(request)
        return verdict(len(sent))(sent, context)

    server.always(STREAM, too_large)
    result = client.publish_many(items(100))
    assert result.requests == reflexio.Counts(stored=99, rejected=1)
    assert result.rejections[0].index == 77


def test_a_verdict_with_unlisted_rejections_counts_nothing_as_stored(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    server.script(STREAM, verdict(2, 0, (0, "INVALID_FIELD"), rejected=2))
    result = client.publish_many(items(4))
    assert result.requests == reflexio.Counts(stored=3, rejected=1)
    assert sizes(server) == [4, 3]


def test_memory_does_not_grow_with_the_iterable(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always(STREAM, lambda sent, _context: _count(len(sent)))
    text = "x" * 20_000

    def many() -> Iterator[dict[str, Any]]:
        for _ in range(3_000):
            yield {"user_id": "ada", "interactions": [{"content": text}]}

    server.calls = _Forgetful()
    tracemalloc.start()
    try:
        assert client.publish_many(many()).requests.stored == 3_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 << 20, "60 MB were published, in segments of 8; the server's side is in this process too"


def _count(number: int) -> pb.PublishInteractionStreamResponse:
    counts = pb.PublishCounts(stored=number)
    return pb.PublishInteractionStreamResponse(requests=counts, interactions=counts)


class _Forgetful(list[Any]):
    def append(self, _call: Any) -> None:
        pass


def test_progress_needs_a_terminal_and_harms_nowhere(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    assert client.publish_many(list(items(3)), progress=True).requests.stored == 3


def test_closing_meanwhile_rejects_nothing(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    def until_closed() -> Iterator[dict[str, Any]]:
        yield from items(1_500)
        client.close()

    with pytest.raises(reflexio.BulkInterruptedError) as caught:
        client.publish_many(until_closed())
    assert isinstance(caught.value.__cause__, reflexio.ClosedError)
    assert caught.value.result.requests == reflexio.Counts(stored=1000)


def test_more_rejections_than_a_result_lists_are_counted(
    server: ScriptedServer, client: reflexio.ReflexioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_KEPT_REJECTIONS", 10)
    result = client.publish_many([{"user_id": ""}] * 25)
    assert (result.requests.rejected, len(result.rejections), result.unlisted) == (25, 10, 15)
    assert result.rejections_file == ""


def test_rejections_go_to_a_file(server: ScriptedServer, client: reflexio.ReflexioClient, tmp_path: Path) -> None:
    path = tmp_path / "rejections.jsonl"
    server.script(STREAM, verdict(998, 0, (3, "LIMIT_EXCEEDED"), (5, "INVALID_FIELD")))
    wrong = ({"user_id": "", "interactions": [{"content": "ä"}], "request_id": f"w{i}"} for i in range(3))
    result = client.publish_many([*items(1_000), *wrong], rejections_file=path)
    assert (result.requests.rejected, result.rejections, result.unlisted) == (5, [], 0)
    assert result.rejections_file == str(path)
    listed = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(one["index"], one["reason"]) for one in listed] == [
        (3, "LIMIT_EXCEEDED"),
        (5, "INVALID_FIELD"),
        *[(1000 + i, "INVALID_FIELD") for i in range(3)],
    ]
    assert listed[-1]["request_id"] == "w2"
    fine = tmp_path / "none.jsonl"
    assert client.publish_many(items(3), rejections_file=fine).rejections_file == ""
    assert not fine.exists()
