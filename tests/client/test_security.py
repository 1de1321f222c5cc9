"""What the client refuses to send in clear text, and what it never shows."""

import asyncio
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import reflexio
from reflexio.channel import parse_url
from reflexio.cli import spool as commands
from reflexio.errors import ConfigurationError
from reflexio.ids import account_tag
from reflexio.security import Tls
from tests.client.scripted_server import KEY, ScriptedServer
from tests.support import PASSWORD

FAR = "http://reflexio.example.com:1/"
WAYS = ("https://", "allow_insecure=True", "REFLEXIO_ALLOW_INSECURE=1", FAR)
Client = type[reflexio.ReflexioClient] | type[reflexio.AsyncReflexioClient]
both = pytest.mark.parametrize("kind", [reflexio.ReflexioClient, reflexio.AsyncReflexioClient])


def refused(call: Callable[[], Any], secret: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        call()
    for way in WAYS:
        assert way in str(caught.value)
    assert secret in str(caught.value)
    assert KEY not in "".join(traceback.format_exception(caught.value))


@both
def test_no_key_in_clear_text_to_another_machine(kind: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(lambda: kind(KEY, FAR), "the API key")
    client = kind("", FAR)
    with pytest.raises(ConfigurationError):
        client.api_key = KEY
    assert client.api_key == ""
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    refused(lambda: kind(url_endpoint=FAR), "the API key")


@both
def test_no_password_in_clear_text_to_another_machine(kind: Client) -> None:
    client = kind("", FAR)

    def log_in() -> None:
        answer: Any = client.login("a@b.c", PASSWORD)
        if asyncio.iscoroutine(answer):
            asyncio.run(answer)

    refused(log_in, "the password")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://127.8.9.10:1/", "http://[::1]:1/", "http://localhost:1/"]
)
def test_loopback_needs_no_tls(url: str) -> None:
    assert reflexio.ReflexioClient(KEY, url).api_key == KEY


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.1:1/", "http://127.0.0.1.example.com:1/", "http://localhost.example.com:1/", "http://0.0.0.0:1/"],
)
def test_these_are_not_loopback(url: str) -> None:
    with pytest.raises(ConfigurationError, match="clear text"):
        reflexio.ReflexioClient(KEY, url)


def test_it_can_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reflexio.ReflexioClient(KEY, FAR, allow_insecure=True).api_key == KEY
    assert reflexio.ReflexioClient(KEY, FAR.replace("http", "https")).api_key == KEY
    for value, allowed in (("1", True), ("true", True), ("0", False), ("", False), ("no", False)):
        monkeypatch.setenv("REFLEXIO_ALLOW_INSECURE", value)
        if allowed:
            assert reflexio.ReflexioClient(KEY, FAR).api_key == KEY
        else:
            with pytest.raises(ConfigurationError):
                reflexio.ReflexioClient(KEY, FAR)


def test_what_an_earlier_process_spooled_is_not_delivered_in_clear_text(
    spool_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was allowed once, and is not any more."""
    before = reflexio.ReflexioClient(KEY, FAR, allow_insecure=True)
    before.publish_interaction("ada", [{"content": "x"}])
    before.close(timeout=0)
    assert list(spool_dir.glob("*"))
    refused(lambda: reflexio.ReflexioClient(KEY, FAR), "the API key")
    monkeypatch.setenv("REFLEXIO_API_KEY", KEY)
    assert commands.main(["flush", "--timeout", "1"]) == 1
    assert "clear text" in capsys.readouterr().err


# ---- Certificates


def pems() -> tuple[bytes, bytes, bytes]:
    authority = trustme.CA()
    made = authority.issue_cert("client.example")
    return authority.cert_pem.bytes(), made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes()


def test_certificates_are_for_tls() -> None:
    ca, cert, key = pems()
    for tls in (Tls(ca), Tls(None, cert, key)):
        with pytest.raises(ConfigurationError, match="https"):
            parse_url("http://a:1/", tls)
        assert parse_url("https://a:1/", tls).tls == tls


def test_certificates_that_cannot_work_are_refused() -> None:
    ca, cert, key = pems()
    for arguments, text in (
        ({"root_certificates": b"nonsense"}, "root_certificates .* holds no certificate"),
        ({"root_certificates": ca.decode()}, "root_certificates .* holds no certificate"),
        ({"root_certificates": key}, "root_certificates .* holds no certificate"),
        ({"client_certificate": cert}, "go together"),
        ({"client_key": key}, "go together"),
        ({"client_certificate": key, "client_key": cert}, "client_certificate .* holds no certificate"),
    ):
        with pytest.raises(ConfigurationError, match=text) as caught:
            reflexio.ReflexioClient(KEY, "https://a:1/", **arguments)
        assert "PRIVATE" not in str(caught.value)


def test_the_environment_names_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("REFLEXIO_CA_CERT", "REFLEXIO_CLIENT_CERT", "REFLEXIO_CLIENT_KEY")
    given = pems()
    for name, pem in zip(names, given, strict=True):
        (tmp_path / name).write_bytes(pem)
        monkeypatch.setenv(name, str(tmp_path / name))
    assert parse_url("https://a:1/").tls == Tls(*given)
    other = pems()[0]
    assert parse_url("https://a:1/", Tls(other)).tls == Tls(other, *given[1:]), "what is given is stronger"
    assert not parse_url("http://a:1/").tls.given, "they are not for plaintext"
    (tmp_path / "REFLEXIO_CA_CERT").unlink()
    with pytest.raises(ConfigurationError, match="REFLEXIO_CA_CERT"):
        parse_url("https://a:1/")


# ---- What is never shown


def test_no_repr_pickle_or_error_holds_the_key(server: ScriptedServer) -> None:
    ca, cert, key = pems()
    client = reflexio.ReflexioClient("", server.url)
    token = client.login("a@b.c", PASSWORD)
    tag = account_tag(token.api_key)
    assert tag
    secrets = (token.api_key, token.api_key.split("_", 2)[2], PASSWORD, "PRIVATE KEY")
    client.publish_interaction("ada", [{"content": "x"}])
    client.flush(10)
    shown = [repr(one) for one in (client, token, client.stats(), *client._senders.values())]
    shown += [repr(client._endpoint), repr(parse_url("https://a:1/", Tls(ca, cert, key)))]
    server.stop()
    with pytest.raises(reflexio.ReflexioError) as caught:
        client.login("a@b.c", PASSWORD, timeout=1)
    shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value.__dict__)]
    with pytest.raises(reflexio.ReflexioError) as caught:
        client.who_am_i(timeout=1)
    shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value.__dict__)]
    with pytest.raises(TypeError):
        pickle.dumps(client)
    for text in shown:
        assert not [secret for secret in secrets if secret in text], text
