"""What a server says when it cannot: no free stream, a full queue, a full disk, an error nobody foresaw."""

import logging
from typing import Any

import grpc
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from reflexio.v1 import auth_service_pb2 as auth_pb
from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core.embedding import VectorMaker
from reflexio_server.core.listing import Lister
from reflexio_server.core.publishing import Publisher
from tests.support import Caller, LocalServer
from tests.wire import (
    MIB,
    NEVER_STORED,
    OpenStream,
    blocked_writer,
    code_of,
    everything,
    expect,
    failure,
    publish,
    say,
    wait_until,
)

Say = noun.InteractionData
SECRET = "SELECT password FROM /var/lib/inside"


def test_a_server_without_a_free_stream_place_says_when_to_try_again(start: Any) -> None:
    server = start(max_streams=1)
    caller = server.new_caller()
    picture = bytes(range(256)) * 4096 * 3
    (with_picture,) = publish(caller, "u", Say(image=picture)).interaction_ids
    first = OpenStream(caller)
    first.send("held")
    wait_until(lambda: caller.get(user_id="u", page_size=2).interactions[0].content == "held", "the first stream")

    def image() -> int:
        request = pb.GetImageRequest(interaction_id=with_picture)
        return sum(len(part.data) for part in caller.interactions.GetImage(request, metadata=caller.metadata))

    for call in (lambda: caller.stream([]), image):
        found = failure(call)
        expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="streams")
        assert found.retry_seconds
        assert found.retry_seconds > 0
    stranger = Caller(server.address, "", "no key")
    assert code_of(lambda: stranger.stream([])) is grpc.StatusCode.UNAUTHENTICATED, "the key is looked at first"

    assert first.close().requests.stored == 1
    wait_until(lambda: code_of(image) is grpc.StatusCode.OK, "the place to be free again")
    assert image() == 3 * MIB


def test_a_cancelled_picture_gives_its_place_back(start: Any) -> None:
    server = start(max_streams=1)
    caller = server.new_caller()
    (with_picture,) = publish(caller, "u", Say(image=bytes(8 * MIB))).interaction_ids
    for _ in range(3):
        request = pb.GetImageRequest(interaction_id=with_picture)
        call: Any = caller.interactions.GetImage(request, metadata=caller.metadata)
        next(call)
        call.cancel()
        wait_until(lambda: code_of(lambda: caller.stream([])) is grpc.StatusCode.OK, "the place to be free again")


def test_a_full_write_queue_refuses_and_loses_nothing(start: Any) -> None:
    server = start(write_queue=2)
    caller = server.new_caller()
    caller.publish("u", "before")
    with blocked_writer(server):
        waiting = [
            caller.interactions.PublishInteractions.future(say(str(number)), metadata=caller.metadata)
            for number in range(30)
        ]
        wait_until(lambda: any(call.done() for call in waiting), "a refusal")
        found = failure(next(call for call in waiting if call.done()).result)
        expect(found, grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_BUSY", limit="writes waiting")
        assert found.retry_seconds
        assert len(caller.get(user_id="u").interactions) == 1, "reading goes on"
    stored = sum(code_of(call.result) is grpc.StatusCode.OK for call in waiting)
    assert 1 <= stored < 30
    assert len(everything(caller)) == 1 + stored
    caller.publish("u", "after")


@pytest.mark.sqlite
def test_a_full_disk_refuses_writes_and_goes_on_reading(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VectorMaker, "start", lambda self: None)  # so that vectors are made by those who wait for them
    server = start()
    caller = server.new_caller()
    texts = [f"kept {number}" for number in range(20)]
    caller.publish("u", *texts, request_id="kept")

    def limit_pages(count: int) -> None:
        with server.app.database.write() as conn:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {count}")

    with server.app.database.read() as conn:
        limit_pages(conn.exec_driver_sql("PRAGMA page_count").scalar_one())
    picture = Say(image=bytes(4 * MIB))
    for _ in range(3):
        found = failure(publish, caller, "u", picture, request_id="does not fit")
        expect(found, grpc.StatusCode.UNAVAILABLE, "DISK_FULL")
        assert found.retry_seconds
    assert len(caller.get(user_id="u", page_size=100).interactions) == 20
    answer = caller.search(user_id="u", query="kept", top_k=100)
    assert (len(answer.hits), answer.unindexed_count) == (20, 20), "found by words, and the missing vectors are told"
    again = caller.publish("u", *texts, request_id="kept", wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    assert again.replayed
    assert not again.searchable

    limit_pages(1_000_000)
    assert not publish(caller, "u", picture, request_id="does not fit").replayed
    assert caller.get(user_id="u").interactions[0].sequence == 21
    assert caller.search(user_id="u", query="kept").unindexed_count == 0


def test_an_error_of_the_database_does_not_carry_what_people_said(server: LocalServer) -> None:
    with pytest.raises(SQLAlchemyError) as caught, server.app.database.read() as conn:
        conn.execute(text("SELECT no_such_column WHERE :said = ''"), {"said": SECRET})
    assert "no_such_column" in str(caught.value)
    assert SECRET not in str(caught.value), "such texts end in the log"


@pytest.mark.parametrize("collaborator", [Lister, Publisher])
def test_an_unforeseen_error_is_a_fixed_text_and_an_id_that_is_in_the_log(
    start: Any, collaborator: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError(SECRET)

    class Broken:
        page = image = publish = publish_all = fail

        def __init__(self, *_: Any) -> None: ...

    monkeypatch.setattr(f"reflexio_server.app.{collaborator.__name__}", Broken)
    caller = start().new_caller()
    request = pb.GetImageRequest(interaction_id=NEVER_STORED)
    message = pb.PublishInteractionsRequest(user_id="u", request_id="r", interactions=[Say(content="x")])
    calls: dict[type, Any] = {
        Lister: (caller.get, lambda: list(caller.interactions.GetImage(request, metadata=caller.metadata))),
        Publisher: (lambda: caller.publish("u", "x"), lambda: caller.stream([message])),
    }
    for call in calls[collaborator]:
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            found = failure(call)
        error_id = found.info.metadata["error_id"]
        expect(found, grpc.StatusCode.INTERNAL, "INTERNAL", error_id=error_id)
        assert found.text == f"internal error {error_id}: the server's log has the cause under this id"
        assert found.retry_seconds is None
        assert SECRET not in str(found)
        (logged,) = [record for record in caplog.records if error_id in record.getMessage()]
        assert logged.exc_info
        assert SECRET in str(logged.exc_info[1])
    caller.auth.WhoAmI(auth_pb.WhoAmIRequest(), metadata=caller.metadata)
