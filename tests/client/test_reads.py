import grpc
import pytest

import reflexio
from reflexio.v1 import interaction_pb2
from reflexio.v1 import interaction_service_pb2 as pb
from tests.client.scripted_server import ScriptedServer, answer, fail

Stored = interaction_pb2.Interaction


def publish_some(server: ScriptedServer, number: int) -> None:
    for i in range(number):
        data = interaction_pb2.InteractionData(content=str(i))
        server.store(pb.PublishInteractionsRequest(user_id="ada", request_id=f"r{i}", interactions=[data]))


def test_requests_as_object_dict_and_keywords_are_the_same(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    client.search_interactions(user_id="ada", query="q", sources=["s"], top_k=3)
    client.search_interactions({"user_id": "ada", "query": "q", "sources": ["s"], "top_k": 3})
    client.search_interactions(reflexio.SearchInteractionsRequest(user_id="ada", query="q", sources=["s"], top_k=3))
    first, second, third = server.sent("SearchInteractions")
    assert first == second == third


def test_unknown_fields_and_both_ways_at_once_are_refused(client: reflexio.ReflexioClient) -> None:
    with pytest.raises(reflexio.InvalidArgumentError, match="unknown key 'querry'; allowed are user_id"):
        client.search_interactions({"querry": "x"})
    with pytest.raises(reflexio.InvalidArgumentError, match="not both: top_k"):
        client.search_interactions({"query": "x"}, top_k=3)
    with pytest.raises(reflexio.InvalidArgumentError, match="must be a dict"):
        client.get_interactions("ada")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'querry'"):
        client.search_interactions(querry="x")  # type: ignore[call-arg]


def test_scores_are_beside_the_interactions(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    hit = pb.SearchHit(interaction=Stored(interaction_id="a"), score=0.5, semantic=0.25, lexical=0.75, thread=1)
    server.script("SearchInteractions", answer(pb.SearchInteractionsResponse(hits=[hit], unindexed_count=4)))
    response = client.search_interactions(query="q")
    (found,) = response.hits
    assert (found.score, found.semantic, found.lexical, found.thread) == (0.5, 0.25, 0.75, 1)
    assert response.interactions == [found.interaction]
    assert response.success
    assert response.unindexed_count == 4
    assert "4 interactions were searched by their words only" in response.msg


def test_abridged_hits_are_fetched_and_erased_ones_left_out(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    hits = [pb.SearchHit(interaction=Stored(interaction_id=i), score=1, abridged=i != "a") for i in "abcd"]
    server.script("SearchInteractions", answer(pb.SearchInteractionsResponse(hits=hits)))
    server.script(
        "GetInteractions",
        answer(pb.GetInteractionsResponse(interactions=[Stored(interaction_id="d", content="D")], next_page_token="n")),
        answer(pb.GetInteractionsResponse(interactions=[Stored(interaction_id="b", content="B")])),
        answer(pb.GetInteractionsResponse(missing_interaction_ids=["c"])),
    )
    response = client.search_interactions(query="q")
    assert [(i.interaction_id, i.content) for i in response.interactions] == [("a", ""), ("b", "B"), ("d", "D")]
    assert [list(r.interaction_ids) for r in server.sent("GetInteractions")] == [["b", "c", "d"], ["b", "c"], ["c"]]


def test_a_large_top_k_follows_the_pages(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    publish_some(server, 2_300)
    response = client.get_interactions(user_id="ada", top_k=2_200)
    assert [i.content for i in response.interactions] == [str(i) for i in range(2_200)]
    assert [(r.page_size, r.page_token) for r in server.sent("GetInteractions")] == [
        (1000, ""),
        (1000, "1000"),
        (200, "2000"),
    ]
    rest = client.get_interactions(user_id="ada", top_k=1000, page_token=response.next_page_token)
    assert [i.content for i in rest.interactions] == [str(i) for i in range(2_200, 2_300)]
    assert rest.next_page_token == ""


def test_short_pages_are_filled_up(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    pages = [
        pb.GetInteractionsResponse(interactions=[Stored(content=str(i))], next_page_token="n" if i < 2 else "")
        for i in range(3)
    ]
    server.script("GetInteractions", *map(answer, pages))
    assert len(client.get_interactions().interactions) == 3
    assert [r.page_size for r in server.sent("GetInteractions")] == [30, 29, 28]


def test_iterating_goes_through_everything(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    publish_some(server, 1_500)
    assert sum(1 for _ in client.iter_interactions(user_id="ada", order="oldest")) == 1_500
    assert [r.order for r in server.sent("GetInteractions")] == [pb.ORDER_OLDEST_FIRST] * 2
    assert sum(1 for _ in client.iter_interactions(user_id="ada", top_k=5)) == 5
    with pytest.raises(reflexio.InvalidArgumentError):
        client.iter_interactions(user_id="")


def test_all_interaction_ids_asked_for_are_read(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script("GetInteractions", answer(pb.GetInteractionsResponse(missing_interaction_ids=["x"])))
    ids = [str(i) for i in range(50)]
    assert client.get_interactions(interaction_ids=ids).missing_interaction_ids == ["x"]
    assert server.sent("GetInteractions")[0].page_size == 50


def test_pictures_that_do_not_fit_are_fetched(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    def picture(**fields: bool | bytes) -> interaction_pb2.Image:
        return interaction_pb2.Image(media_type="image/png", size_bytes=6, **fields)  # type: ignore[arg-type]

    stored = [
        Stored(interaction_id="here", image=picture(data=b"abc")),
        Stored(interaction_id="apart", image=picture(data_omitted=True)),
        Stored(interaction_id="gone", image=picture(data_omitted=True)),
        Stored(interaction_id="none"),
    ]
    server.script("GetInteractions", answer(pb.GetInteractionsResponse(interactions=stored)))
    parts = [pb.GetImageResponse(image=picture(), data=b"abc"), pb.GetImageResponse(data=b"def")]
    server.script("GetImage", answer(parts), fail(grpc.StatusCode.NOT_FOUND))
    found = client.get_interactions(include_images=True).interactions
    assert [i.image_encoding for i in found] == ["YWJj", "YWJjZGVm", None, None]
    server.script("GetInteractions", answer(pb.GetInteractionsResponse(interactions=stored[1:])))
    assert client.get_interactions().interactions[0].image_encoding is None
    assert server.count("GetImage") == 2


def test_one_picture(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script("GetImage", answer([pb.GetImageResponse(data=b"a" * (1 << 20)) for _ in range(5)]))
    assert client.get_image("i") == b"a" * (5 << 20)
    server.script("GetImage", fail(grpc.StatusCode.NOT_FOUND))
    with pytest.raises(reflexio.NotFoundError):
        client.get_image("i")
    assert server.sent("GetImage")[0].interaction_id == "i"


def test_requests_by_thread_across_pages(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    def group(name: str, *ids: str) -> pb.RequestGroup:
        head = interaction_pb2.Request
        return pb.RequestGroup(
            request_group=name,
            requests=[
                pb.RequestWithInteractions(
                    request=head(request_id=i, request_group=name), interactions=[Stored(content=i)]
                )
                for i in ids
            ],
        )

    server.script(
        "GetRequests",
        answer(pb.GetRequestsResponse(request_groups=[group("", "3"), group("g", "1", "2")], next_page_token="n")),
        answer(pb.GetRequestsResponse(request_groups=[group("g", "4"), group("", "5"), group("", "6")])),
    )
    response = client.get_requests(user_id="ada", top_k=10)
    found = [(g.request_group, [r.request.request_id for r in g.requests]) for g in response.request_groups]
    assert found == [("", ["3"]), ("g", ["1", "2", "4"]), ("", ["5"]), ("", ["6"])]
    assert response.request_groups[1].requests[0].interactions[0].content == "1"
    assert [(r.page_size, r.page_token) for r in server.sent("GetRequests")] == [(10, ""), (7, "n")]


def test_a_request_larger_than_a_page_is_put_together_again(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    def page(token: str, *parts: tuple[str, str, bool]) -> pb.GetRequestsResponse:
        group = pb.RequestGroup(request_group="g")
        for name, content, continues in parts:
            one = group.requests.add(continues=continues)
            one.request.request_id, one.request.request_group = name, "g"
            one.interactions.add(content=content)
        return pb.GetRequestsResponse(request_groups=[group], next_page_token=token)

    pages = [
        page("b", ("1", "a", True)),
        page("c", ("1", "b", True)),
        page("d", ("1", "c", False), ("2", "d", False)),
        page("", ("3", "e", True)),  # its other interactions were erased in between
    ]
    server.script("GetRequests", *map(answer, pages[:3]))
    (group,) = client.get_requests(user_id="ada", top_k=2).request_groups
    assert [[i.content for i in r.interactions] for r in group.requests] == [["a", "b", "c"], ["d"]]
    assert [(r.page_size, r.page_token) for r in server.sent("GetRequests")] == [(2, ""), (2, "b"), (2, "c")]
    server.script("GetRequests", *map(answer, pages))
    found = client.iter_requests({"user_id": "ada"})
    assert [[i.content for i in r.interactions] for r in found] == [["a", "b", "c"], ["d"], ["e"]]
    assert [r.page_size for r in server.sent("GetRequests")[3:]] == [1000] * 4


def test_what_the_server_does_not_offer_yet(client: reflexio.ReflexioClient) -> None:
    with pytest.raises(reflexio.UnimplementedError) as caught:
        client.get_requests(user_id="ada")
    assert caught.value.reason == "NOT_IMPLEMENTED"
    with pytest.raises(reflexio.InvalidArgumentError, match="user_id"):
        client.get_requests()
