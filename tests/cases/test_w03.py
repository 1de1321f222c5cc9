"""W3: an account of a few interactions costs Chroma nothing: they are compared one by one anyway."""

from collections.abc import Callable

import pytest

from reflexio.v1 import interaction_service_pb2 as pb
from reflexio_server.index.chroma_folder import CHROMA_FOLDER
from reflexio_server.storage import collections, waiting
from tests.support import LocalServer
from tests.wire import wait_until
from tests.words import Words, use

ACCOUNTS = 5


@pytest.mark.xfail(strict=True, reason="every account has a collection of its own, however small it is")
def test_small_accounts_have_no_collection(start: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Words())
    server = start()
    callers = [server.new_caller() for _ in range(ACCOUNTS)]
    for caller in callers:
        caller.publish("u", "grey kitten", "black dog", wait_until=pb.WAIT_UNTIL_SEARCHABLE)

    def followed() -> bool:
        with server.app.database.read() as conn:
            waits = waiting.first(conn) is not None
            return not waits and not collections.lagging_accounts(conn, server.live_model())

    wait_until(followed, "the index")
    assert [len(caller.search(query="grey kitten", top_k=1).hits) for caller in callers] == [1] * ACCOUNTS
    folders = [path for path in (server.data_dir / CHROMA_FOLDER).glob("*/*") if path.is_dir()]
    assert len(folders) < ACCOUNTS
