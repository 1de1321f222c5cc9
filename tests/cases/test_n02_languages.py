"""N2 and F15 in every language: an import waits for a busy server, and only what is refused for good is rejected."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import grpc
import pytest

import reflexio
from tests.client.scripted_server import KEY, ScriptedServer, fail, foreign, info, publish_stream, retry_after, verdict
from tests.polyglot.conftest import Built, built
from tools.toolchains import LANGUAGES

__all__ = ["built"]
pytestmark = pytest.mark.timeout(1200)  # the first test of a language builds it

STREAM = "PublishInteractionStream"
Code = grpc.StatusCode
# What is over a while later, however much is sent at a time.
PASSING = {
    "busy": fail(Code.RESOURCE_EXHAUSTED, "busy", info("TOO_BUSY", limit="calls"), retry_after(0.05)),
    "proxy": fail(Code.RESOURCE_EXHAUSTED, "rate limit of a proxy"),
    "proxy that gives a reason": fail(Code.RESOURCE_EXHAUSTED, "quota", foreign("LIMIT_EXCEEDED")),
    "calm": fail(Code.RESOURCE_EXHAUSTED, "Stream removed (RST_STREAM from remote peer with error code 11)"),
    "reset": fail(Code.UNAVAILABLE, "Stream removed (RST_STREAM from remote peer with error code 7)"),
    "draining": fail(Code.UNAVAILABLE, "away", info("DRAINING"), retry_after(0.05)),
}
# What a stream with such a request in it meets each time.
REFUSED = {
    "python": fail(Code.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max (20 vs. 10)"),
    "go": fail(Code.RESOURCE_EXHAUSTED, "grpc: received message larger than max (20 vs. 10)"),
    "java": fail(Code.RESOURCE_EXHAUSTED, "gRPC message exceeds maximum size 10: 20"),
    "typescript": fail(Code.RESOURCE_EXHAUSTED, "message size 20 is larger than configured readMaxBytes 10"),
    "rust": fail(Code.RESOURCE_EXHAUSTED, "Error, decoded message length too large: found 20 bytes"),
    "limit": fail(Code.RESOURCE_EXHAUSTED, "too much", info("LIMIT_EXCEEDED")),
    "field": fail(Code.INVALID_ARGUMENT, "wrong", info("INVALID_FIELD")),
    "erased": fail(Code.ALREADY_EXISTS, "erased", info("REQUEST_ERASED")),
}


@pytest.fixture
def load(scripted: ScriptedServer, built: Built) -> Callable[[str, list[str]], str]:
    """Import texts in a language; returns what became of them in words, from "1 stored"."""

    def run(language: str, texts: list[str]) -> str:
        if language == "python":
            with reflexio.ReflexioClient(KEY, scripted.url) as client:
                counts = client.publish_many({"user_id": "ada", "interactions": [{"content": t}]} for t in texts)
            requests = counts.requests
            return f"{requests.stored} stored, {requests.duplicate} duplicate, {requests.rejected} rejected"
        done = subprocess.run(
            built(language).command("bulk"),
            input="".join(f"ada\tUser\t{text}\n" for text in texts),
            env=os.environ | {"REFLEXIO_ADDRESS": f"127.0.0.1:{scripted.port}", "REFLEXIO_API_KEY": KEY},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    return run


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_passes_is_waited_for_and_nothing_is_rejected_or_halved(
    language: str, load: Callable[[str, list[str]], str], scripted: ScriptedServer
) -> None:
    for passing in PASSING.values():
        scripted.script(STREAM, *[passing] * 3, verdict(1))  # which settles the first of what was sent
    texts = [str(number) for number in range(len(PASSING) + 4)]
    assert load(language, texts) == f"{len(texts)} stored, 0 duplicate, 0 rejected"
    assert [len(sent) for sent in scripted.sent(STREAM)] == [
        *(len(texts) - settled for settled in range(len(PASSING)) for _ in range(4)),
        4,
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_somebody_else_refuses_is_sent_again(
    language: str, load: Callable[[str, list[str]], str], scripted: ScriptedServer
) -> None:
    """A proxy's reason is not Reflexio's, and a reason that nobody knows yet may pass."""
    for code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION):
        scripted.script(STREAM, fail(code, "no", foreign("INVALID_FIELD")), fail(code, "no"))
    scripted.script(STREAM, verdict(0, 0, (0, "NOT_YET_KNOWN")))
    assert load(language, ["a", "b", "c"]) == "3 stored, 0 duplicate, 0 rejected"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_refused_for_good_is_found_and_rejected_alone(
    language: str, load: Callable[[str, list[str]], str], scripted: ScriptedServer
) -> None:
    def act(requests: Any, context: grpc.ServicerContext) -> Any:
        for request in requests:
            if refused := REFUSED.get(request.interactions[0].content):
                return refused(requests, context)
        return publish_stream(scripted, requests)

    scripted.always(STREAM, act)
    texts = [text for name in REFUSED for text in (name, f"beside {name}", f"after {name}")]
    assert load(language, texts) == f"{2 * len(REFUSED)} stored, 0 duplicate, {len(REFUSED)} rejected"
    assert scripted.stored_contents() == [text for text in texts if text not in REFUSED]
