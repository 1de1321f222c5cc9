import pickle
import time
from importlib import metadata
from typing import Any

import grpc
import pytest

import reflexio
from reflexio import status
from reflexio.models import Token
from reflexio.outcomes import Rejection
from reflexio.status import error_from_rejection
from reflexio.v1.error_reason_pb2 import ErrorReason
from tests.client.scripted_server import KEY, ScriptedServer, bad_request, fail, info, make_key, retry_after

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, reflexio.InvalidArgumentError),
        (Code.UNAUTHENTICATED, reflexio.AuthenticationError),
        (Code.NOT_FOUND, reflexio.NotFoundError),
        (Code.ALREADY_EXISTS, reflexio.AlreadyExistsError),
        (Code.RESOURCE_EXHAUSTED, reflexio.ResourceExhaustedError),
        (Code.DEADLINE_EXCEEDED, reflexio.DeadlineExceededError),
        (Code.INTERNAL, reflexio.InternalError),
        (Code.UNIMPLEMENTED, reflexio.UnimplementedError),
        (Code.PERMISSION_DENIED, reflexio.ReflexioError),
        (Code.UNKNOWN, reflexio.ReflexioError),
    ],
)
def test_each_status_has_its_class(
    server: ScriptedServer, client: reflexio.ReflexioClient, code: Code, kind: type[reflexio.ReflexioError]
) -> None:
    text = "what happened: message larger than max" if code is Code.RESOURCE_EXHAUSTED else "what happened"
    server.script("WhoAmI", fail(code, text))  # without that limit's name it would be repeated
    with pytest.raises(reflexio.ReflexioError) as caught:
        client.who_am_i()
    assert type(caught.value) is kind
    assert caught.value.code == code.name
    assert "what happened" in str(caught.value) or code is Code.DEADLINE_EXCEEDED
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_details_are_decoded(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script(
        "WhoAmI",
        fail(Code.INVALID_ARGUMENT, "x", info("INVALID_FIELD", violations="2"), bad_request(("a", "1"), ("b.c", "2"))),
        fail(Code.RESOURCE_EXHAUSTED, "x", info("TOO_BUSY", limit="calls"), retry_after(1.5)),
        fail(Code.INTERNAL, "x", info("INTERNAL", error_id="e-1")),
    )
    with pytest.raises(reflexio.InvalidArgumentError) as invalid:
        client.who_am_i()
    assert invalid.value.violations == [("a", "1"), ("b.c", "2")]
    assert (invalid.value.reason, invalid.value.metadata) == ("INVALID_FIELD", {"violations": "2"})
    with pytest.raises(reflexio.ResourceExhaustedError) as busy:
        client.who_am_i(timeout=1)
    assert (busy.value.retry_after, busy.value.metadata["limit"]) == (1.5, "calls")
    with pytest.raises(reflexio.InternalError) as internal:
        client.who_am_i()
    assert internal.value.error_id == "e-1"


def test_an_error_has_the_id_of_its_call_in_its_text_once(
    server: ScriptedServer, client: reflexio.ReflexioClient
) -> None:
    def refuses(text: str) -> Any:
        def handle(_request: Any, context: grpc.ServicerContext) -> Any:
            context.set_trailing_metadata((("x-request-id", "call-7"),))
            context.abort(Code.NOT_FOUND, text)

        return handle

    server.script("WhoAmI", refuses("not there"), refuses("not there, see call-7"), fail(Code.NOT_FOUND, "no id"))
    errors = []
    for _ in range(3):
        with pytest.raises(reflexio.NotFoundError) as caught:
            client.who_am_i()
        errors.append(caught.value)
    assert [error.call_id for error in errors] == ["call-7", "call-7", ""]
    assert [str(error) for error in errors] == ["not there (call call-7)", "not there, see call-7", "no id"]
    assert str(pickle.loads(pickle.dumps(errors[0]))) == str(errors[0])


def test_no_server_names_the_address() -> None:
    with (
        reflexio.ReflexioClient(KEY, "http://127.0.0.1:1/", timeout=20) as client,
        pytest.raises(reflexio.UnavailableError, match=r"http://127\.0\.0\.1:1/"),
    ):
        client.who_am_i()


def test_a_slow_server_names_the_address_and_the_time(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.always("SearchInteractions", lambda _request, _context: time.sleep(3))
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1.* within 0\.3 s"):
        client.search_interactions(query="x", timeout=0.3)


def test_a_lost_connection_is_read_again(server: ScriptedServer, client: reflexio.ReflexioClient) -> None:
    server.script("WhoAmI", fail(Code.UNAVAILABLE), fail(Code.UNAVAILABLE))
    assert client.who_am_i().account.email == "a@b.c"
    assert server.count("WhoAmI") == 3


def test_login_is_never_repeated(server: ScriptedServer) -> None:
    server.script("Login", fail(Code.UNAVAILABLE, "down"))
    client = reflexio.ReflexioClient(url_endpoint=server.url)
    with pytest.raises(reflexio.UnavailableError):
        client.login("a@b.c", "pw")
    assert server.count("Login") == 1
    client.close()


def test_login_sets_the_key_and_sends_none(server: ScriptedServer) -> None:
    with reflexio.ReflexioClient(url_endpoint=server.url) as client:
        token = client.login("a@b.c", "pw")
        assert client.api_key == token.api_key == make_key(fill="n")
        assert token.token_type == "bearer"
        client.who_am_i()
    login, who = server.calls
    assert "authorization" not in login.metadata
    assert who.metadata["authorization"] == f"Bearer {token.api_key}"
    assert str(who.metadata["user-agent"]).startswith("reflexio-python")


def test_secrets_are_not_shown() -> None:
    assert "s3cret" not in repr(Token(api_key="s3cret"))
    client = reflexio.ReflexioClient(KEY)
    assert KEY not in repr(client)
    assert "http://127.0.0.1:8081/" in repr(client)


def test_no_key_and_a_mistyped_key_are_said_at_once() -> None:
    for key, text in (("", "there is no API key"), (KEY[:-1] + "x", "malformed"), ("with\nbreak", "malformed")):
        client = reflexio.ReflexioClient(key)
        with pytest.raises(reflexio.AuthenticationError, match=text):
            client.publish_interaction("ada", [{"content": "x"}])
        with pytest.raises(reflexio.AuthenticationError, match=text):
            client.publish_interaction("ada", [{"content": "x"}], wait_for_response=True)
        with pytest.raises(reflexio.AuthenticationError, match=text):
            client.search_interactions(query="x")
        with pytest.raises(reflexio.AuthenticationError, match=text):
            client.publish_many(iter(()))


def test_the_environment_fills_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFLEXIO_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("REFLEXIO_API_URL", "https://elsewhere:5/")
    client = reflexio.ReflexioClient()
    assert client.api_key == KEY
    assert "elsewhere:5" in repr(client)
    assert "here:6" in repr(reflexio.ReflexioClient(url_endpoint="https://here:6/"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"timeout": 0},
        {"timeout": float("inf")},
        {"timeout": "5"},
        {"max_pending": 0},
        {"api_key": 5},
        {"url_endpoint": "nonsense"},
    ],
)
def test_wrong_set_up_is_a_configuration_error(arguments: dict[str, object]) -> None:
    with pytest.raises(reflexio.ConfigurationError):
        reflexio.ReflexioClient(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("INVALID_FIELD", reflexio.InvalidArgumentError),
        ("LIMIT_EXCEEDED", reflexio.InvalidArgumentError),
        ("REQUEST_ID_REUSED", reflexio.AlreadyExistsError),
        ("INTERNAL", reflexio.InternalError),
        ("SOMETHING_NEW", reflexio.ReflexioError),
    ],
)
def test_rejections_become_the_same_errors(reason: str, kind: type[reflexio.ReflexioError]) -> None:
    error = error_from_rejection(Rejection(0, "r", reason, "interactions[0].image", "too big"))
    assert type(error) is kind
    assert (error.reason, str(error)) == (reason, "too big")
    if isinstance(error, reflexio.InvalidArgumentError):
        assert error.violations == [("interactions[0].image", "too big")]


def test_errors_survive_pickling() -> None:
    error = reflexio.InvalidArgumentError("x", violations=[("a", "b")], reason="INVALID_FIELD")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.violations, again.reason) == ("x", [("a", "b")], "INVALID_FIELD")


def test_the_public_surface() -> None:
    assert reflexio.__version__ == metadata.version("reflexio-grpc")
    assert all(hasattr(reflexio, name) for name in reflexio.__all__)
    assert list(reflexio.__all__) == sorted(reflexio.__all__)


def test_every_reason_of_the_contract_has_a_status() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert reasons - {"UNSPECIFIED"} == set(status._CODE_OF_REASON)
