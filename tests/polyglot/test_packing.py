"""In every language several requests share a message where the server takes that, and never where it does not."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.cases.conftest import scripted
from tests.cases.test_n02_languages import load
from tests.client.scripted_server import UNREAD, ScriptedServer, publish_stream
from tests.polyglot.conftest import built
from tools.toolchains import LANGUAGES

__all__ = ["built", "load", "scripted"]
pytestmark = pytest.mark.timeout(1200)  # the first test of a language builds it

STREAM = "PublishInteractionStream"
TEXTS = [str(number) for number in range(2050)]
Load = Callable[[str, list[str]], str]


def messages_of(server: ScriptedServer) -> list[int]:
    return [call.messages for call in server.calls if call.method == STREAM]


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_are_packed_once_the_server_said_so(language: str, load: Load, scripted: ScriptedServer) -> None:
    scripted.per_message = 100
    assert load(language, TEXTS) == f"{len(TEXTS)} stored, 0 duplicate, 0 rejected"
    assert messages_of(scripted) == [1000, 10, 1]
    assert scripted.stored_contents() == TEXTS


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_server_of_before_in_anothers_place_costs_nothing(
    language: str, load: Load, scripted: ScriptedServer
) -> None:
    """Rolled back, or one of several behind one address: to it, each message with several is an empty one."""
    scripted.per_message = 100

    def act(requests: Any, context: grpc.ServicerContext) -> Any:
        call = len(messages_of(scripted))
        if call == 2:
            scripted.per_message = 0
            requests = [UNREAD] * messages_of(scripted)[-1]
        return publish_stream(scripted, requests)

    scripted.always(STREAM, act)
    assert load(language, TEXTS) == f"{len(TEXTS)} stored, 0 duplicate, 0 rejected"
    assert messages_of(scripted) == [1000, 10, 1000, 50]
    assert sorted(scripted.stored_contents(), key=int) == TEXTS
