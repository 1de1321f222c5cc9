"""Interactions are found by what stands in their pictures, with real screenshots and the real reader."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reflexio.v1 import interaction_pb2 as noun
from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.core import picture_reading
from reflexio_server.index.ocr import Reader, ReadingFailed, ReadText
from tests.server.index import screenshots
from tests.soundness import faults
from tests.state import found_in, rows
from tests.support import Caller, LocalServer
from tests.wire import everything, publish, wait_until

pytestmark = pytest.mark.store

Say = noun.InteractionData


@pytest.fixture
def server(start: Callable[..., LocalServer], ocr_dir: Path) -> LocalServer:
    return start(read_pictures=True)


def png(number: int) -> bytes:
    """A picture of its own, with nothing in it to read."""
    file = BytesIO()
    Image.fromarray(np.full((40, 40), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def unread(server: LocalServer) -> int:
    ((count,),) = rows(
        server.data_dir,
        """SELECT count(*) FROM interactions WHERE image_sha256 IS NOT NULL
           AND (picture_read IS NULL OR id IN (SELECT id FROM waiting))""",
    )
    return int(count)


def wait_until_read(server: LocalServer) -> None:
    wait_until(lambda: unread(server) == 0, "all pictures to be read, and found by meaning")


def use(monkeypatch: pytest.MonkeyPatch, read: Callable[[bytes], ReadText]) -> list[bytes]:
    """Let this stand for the reader; what it is given."""
    given: list[bytes] = []

    def reading(_: Reader, data: bytes) -> ReadText:
        given.append(data)
        return read(data)

    monkeypatch.setattr(Reader, "read", reading)
    return given


def test_a_screenshot_is_found_by_what_stands_in_it(server: LocalServer) -> None:
    caller = server.new_caller()
    shown = screenshots.traceback()
    publish(caller, "u", Say(content="It broke again, see here:", image=shown.png()), request_id="shown")
    publish(caller, "u", Say(image=screenshots.table().png()), request_id="alone")
    publish(caller, "u", Say(content="I like walnuts"), request_id="other")
    wait_until_read(server)
    word = next(word for word in shown.text.split() if word.isalpha() and len(word) > 8)
    (best, *_) = caller.search(user_id="u", query=word, include_images=False).hits
    assert (best.interaction.request_id, best.lexical) == ("shown", 1)
    assert best.interaction.content == "It broke again, see here:", "what stands in it is apart"
    assert word in best.interaction.image.text
    alone = caller.search(user_id="u", query=screenshots.table().lines[0]).hits[0]
    assert alone.interaction.request_id == "alone"
    assert alone.semantic > 0.2, "and by its meaning"
    stored = {item.request_id: item for item in everything(caller)}
    assert stored["shown"].image.text == best.interaction.image.text
    assert stored["other"].image.text == ""
    assert faults(server.data_dir) == {}


def test_it_is_off_unless_switched_on_and_then_reads_what_was_stored_before(
    start: Callable[..., LocalServer], ocr_dir: Path
) -> None:
    server = start()
    caller = server.new_caller()
    publish(caller, "u", Say(content="see", image=screenshots.german().png()), wait_until=pb.WAIT_UNTIL_SEARCHABLE)
    assert rows(server.data_dir, "SELECT text FROM images") == [(None,)]
    server.stop()
    again = start(server.data_dir, read_pictures=True)
    wait_until_read(again)
    (item,) = everything(Caller(again.address, caller.email, caller.api_key))
    assert len(item.image.text) > 50


def test_a_picture_is_read_once_for_all_who_show_it_in_an_account(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = use(monkeypatch, lambda _: ReadText("zeppelin"))
    one, other = server.new_caller(), server.new_caller()
    for user in ("u", "v", "u"):
        publish(one, user, Say(content="look", image=png(1)))
    wait_until_read(server)
    publish(one, "w", Say(image=png(1)))
    publish(other, "u", Say(image=png(1)))
    wait_until_read(server)
    assert len(given) == 2, "once in each account"
    assert len(one.search(query="zeppelin").hits) == 4
    assert len(other.search(query="zeppelin").hits) == 1


def test_what_stands_in_a_picture_is_erased_with_it(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda _: ReadText("the secret is zeppelin 4711"))
    caller = server.new_caller()
    publish(caller, "u", Say(content="look", image=png(1)), request_id="a")
    publish(caller, "u", Say(content="look", image=png(1)), request_id="b")
    wait_until_read(server)
    caller.delete_request("a")
    assert [hit.interaction.request_id for hit in caller.search(query="zeppelin").hits] == ["b"]
    caller.delete_request("b")
    assert not caller.search(query="zeppelin").hits
    assert rows(server.data_dir, "SELECT count(*) FROM images") == [(0,)]
    assert faults(server.data_dir) == {}
    server.stop()
    assert found_in(server.data_dir, ["zeppelin 4711"]) == {}


def test_what_passes_is_tried_again_and_what_cannot_be_read_is_not(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_reading, "_PAUSE_SECONDS", 0.05)
    short = [ReadingFailed("memory is short")] * 3

    def read(data: bytes) -> ReadText:
        if short:
            raise short.pop()
        return ReadText("", "it is no picture") if data == b"junk" else ReadText("zeppelin")

    given = use(monkeypatch, read)
    caller = server.new_caller()
    publish(caller, "u", Say(content="look", image=png(1)))
    publish(caller, "u", Say(content="and here", image=b"junk"))
    wait_until_read(server)
    assert len(given) == 5
    assert [hit.interaction.content for hit in caller.search(query="zeppelin", min_score=0.1).hits] == ["look"]
    reading = server.app.backstage.picture_reading
    assert reading
    assert (reading.read, reading.unreadable) == (1, 1)
    assert [item.image.text for item in everything(caller, user_id="u")] == ["", "zeppelin"]


def test_what_is_published_or_erased_meanwhile_loses_nothing(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is erased while its picture is read, and others are shown it again."""
    caller = server.new_caller()
    steps: list[Any] = [
        lambda: caller.delete_request("0"),
        lambda: publish(caller, "u", Say(content="late", image=png(1)), request_id="late"),
        lambda: caller.delete_user("v"),
    ]

    def read(_: bytes) -> ReadText:
        if steps:
            steps.pop(0)()
        return ReadText("zeppelin")

    use(monkeypatch, read)
    for number in range(3):
        publish(caller, "uvw"[number], Say(content="look", image=png(number)), request_id=str(number))
    wait_until_read(server)
    left = {item.request_id for item in everything(caller)}
    assert {hit.interaction.request_id for hit in caller.search(query="zeppelin", top_k=50).hits} == left
    assert "0" not in left
    assert faults(server.data_dir) == {}


def test_texts_of_pictures_count_in_the_size_of_a_page(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, lambda _: ReadText("x" * 20_000))
    caller = server.new_caller()
    number = 200
    publish(caller, "u", *[Say(content=str(n), image=png(n)) for n in range(number)])
    wait_until_read(server)
    page = caller.get(user_id="u", page_size=1000)
    assert page.ByteSize() < 3 * 2**20
    assert 0 < len(page.interactions) < number
    assert len(everything(caller, user_id="u")) == number
