"""TLS: certificates that are followed, clients that must show theirs, and what is said when a file is wrong."""

import logging
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import reflexio
from reflexio import security
from reflexio_server.app import App
from reflexio_server.config import Settings
from reflexio_server.transport import CannotListen
from tests.command import run, said
from tests.support import PASSWORD, LocalServer, ServerProcess
from tests.tls_files import Files

Start = Callable[..., LocalServer]


def url(server: LocalServer) -> str:
    return f"https://{server.address}/"


def key_of(server: LocalServer, files: Files, **more: Any) -> reflexio.ReflexioClient:
    """A client with an account of its own."""
    email = f"{server.address.rpartition(':')[2]}@example.com"
    run("accounts", "create", email, "--data-dir", server.data_dir, given=PASSWORD)
    client = reflexio.ReflexioClient("", url(server), root_certificates=files.roots, timeout=10, **more)
    client.login(email, PASSWORD)
    return client


def shown_by(server: LocalServer) -> bytes:
    """The certificate that a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain, context.wrap_socket(plain) as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
    assert shown
    return shown


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(
        path.read_text().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----"
    )


def said_by_transport(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.message) for one in caplog.records if one.name == "reflexio_server.transport"]


def test_everything_goes_over_tls(start: Start, files: Files) -> None:
    server = start(**files.settings)
    with key_of(server, files) as client:
        client.publish_interaction("ada", [{"content": "hello"}], wait_for_response=True)
        client.publish_interaction("ada", [{"content": "later"}])
        assert client.flush(20).pending == 0
        assert [one.content for one in client.get_interactions(user_id="ada", order="oldest").interactions] == [
            "hello",
            "later",
        ]


def test_a_client_that_does_not_know_the_authority_sends_nothing(start: Start, files: Files) -> None:
    server = start(**files.settings)
    other = trustme.CA().cert_pem.bytes()
    for roots in (None, other):
        with (
            reflexio.ReflexioClient("", url(server), root_certificates=roots) as client,
            pytest.raises(reflexio.UnavailableError, match=server.address),
        ):
            client.login("a@b.c", PASSWORD, timeout=10)


def test_a_certificate_of_another_name_is_refused(start: Start, tmp_path: Path) -> None:
    files = Files(trustme.CA(), tmp_path / "tls")
    made = files.authority.issue_cert("elsewhere.example")
    files.key.write_bytes(made.private_key_pem.bytes())
    files.cert.write_bytes(made.cert_chain_pems[0].bytes())
    server = start(**files.settings)
    with (
        reflexio.ReflexioClient("", url(server), root_certificates=files.roots) as client,
        pytest.raises(reflexio.UnavailableError),
    ):
        client.login("a@b.c", PASSWORD, timeout=10)


def test_the_environment_names_the_authority(start: Start, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    server = start(**files.settings)
    key = key_of(server, files).api_key
    monkeypatch.setenv("REFLEXIO_CA_CERT", str(files.ca))
    with reflexio.ReflexioClient(key, url(server)) as client:
        assert client.who_am_i().account.email
    monkeypatch.delenv("REFLEXIO_CA_CERT")
    monkeypatch.delenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.ca))  # so other programs are told of the system's authorities
    security.system_roots.cache_clear()
    try:
        with reflexio.ReflexioClient(key, url(server)) as client:
            assert client.who_am_i().account.email
    finally:
        security.system_roots.cache_clear()


def test_a_changed_certificate_is_used_for_new_connections(
    start: Start, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(**files.settings)
    before = der(files.cert)
    with key_of(server, files) as client:
        assert shown_by(server) == shown_by(server) == before
        files.renew()
        assert der(files.cert) != before
        with caplog.at_level(logging.INFO, "reflexio_server.transport"):
            assert shown_by(server) == der(files.cert)
        assert said_by_transport(caplog) == [("INFO", f"now using the changed certificate in {files.cert}")]
        assert client.who_am_i().account.email, "the connection that was open goes on"
    with (
        reflexio.ReflexioClient("", url(server), root_certificates=files.roots) as fresh,
        pytest.raises(reflexio.AuthenticationError),
    ):
        fresh.login("a@b.c", PASSWORD, timeout=10)


@pytest.mark.parametrize("fault", ["missing", "garbage", "other key", "cut off"])
def test_a_broken_change_leaves_the_certificate_before_in_use(
    start: Start, files: Files, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    server = start(**files.settings)
    before = der(files.cert)
    good = files.cert.read_bytes(), files.key.read_bytes()
    faults: dict[str, Callable[[], object]] = {
        "missing": files.cert.unlink,
        "garbage": lambda: files.cert.write_bytes(b"\0 nothing"),
        "other key": lambda: files.key.write_bytes(trustme.CA().issue_cert("a").private_key_pem.bytes()),
        "cut off": lambda: files.key.write_bytes(good[1][:100]),
    }
    faults[fault]()
    with caplog.at_level(logging.INFO, "reflexio_server.transport"):
        for _ in range(3):
            assert shown_by(server) == before
    ((level, complaint),) = said_by_transport(caplog)
    assert level == "ERROR"
    assert complaint.endswith("; the certificate before stays in use")
    assert str(files.folder) in complaint
    files.cert.write_bytes(good[0])
    files.renew()
    assert shown_by(server) == der(files.cert), "and when it is mended it is used"


def test_clients_must_show_a_certificate_of_the_authority_that_is_asked_for(start: Start, files: Files) -> None:
    ours, theirs = trustme.CA(), trustme.CA()
    ca = files.folder / "clients.pem"
    ca.write_bytes(ours.cert_pem.bytes())
    server = start(**files.settings, tls_client_ca=ca)

    def certificate_of(authority: trustme.CA) -> dict[str, Any]:
        made = authority.issue_cert("client.example")
        return {"client_certificate": made.cert_chain_pems[0].bytes(), "client_key": made.private_key_pem.bytes()}

    with key_of(server, files, **certificate_of(ours)) as client:
        assert client.who_am_i().account.email
        client.publish_interaction("ada", [{"content": "hello"}])
        assert client.flush(20).pending == 0, "the thread that delivers shows it too"
    for wrong in ({}, certificate_of(theirs)):
        with (
            reflexio.ReflexioClient(client.api_key, url(server), root_certificates=files.roots, **wrong) as stranger,
            pytest.raises(reflexio.UnavailableError),
        ):
            stranger.login("a@b.c", PASSWORD, timeout=5)


def break_files(files: Files, fault: str) -> str:
    """Break something; what must be said of it."""
    match fault:
        case "no certificate":
            files.cert.unlink()
            return f"cannot read {files.cert}: No such file or directory"
        case "no key":
            files.key.unlink()
            return f"cannot read {files.key}: No such file or directory"
        case "a folder":
            files.key.unlink()
            files.key.mkdir()
            return f"cannot read {files.key}: Is a directory"
        case "not PEM":
            files.cert.write_bytes(der(files.cert))
            return f"{files.cert} holds no certificate in PEM form"
        case "swapped":
            files.cert.write_bytes(files.key.read_bytes())
            return f"{files.cert} holds no certificate in PEM form"
        case "mismatch":
            files.key.write_bytes(files.authority.issue_cert("localhost").private_key_pem.bytes())
            return f"the key in {files.key} does not belong to the certificate in {files.cert}"
        case "cut off":
            files.cert.write_bytes(files.cert.read_bytes()[:300])
            return f"{files.cert} or {files.key} is damaged"
        case "passphrase":
            text = files.key.read_text().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
            files.key.write_text(text)
            return f"the key in {files.key} has a passphrase"
    raise AssertionError(fault)


@pytest.mark.parametrize(
    "fault", ["no certificate", "no key", "a folder", "not PEM", "swapped", "mismatch", "cut off", "passphrase"]
)
def test_a_start_with_broken_files_names_the_file(tmp_path: Path, model_dir: Path, files: Files, fault: str) -> None:
    expected = break_files(files, fault)
    assert expected in said(run("serve", "--data-dir", tmp_path / "data", "--model-dir", model_dir, *files.flags))
    assert not (tmp_path / "data").exists(), "nothing was touched"


def test_a_broken_authority_of_clients_is_said(tmp_path: Path, files: Files) -> None:
    ca = files.folder / "clients.pem"
    ca.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    text = said(run("serve", "--data-dir", tmp_path / "data", *files.flags, "--tls-client-ca", ca))
    assert text == f"{ca} holds no usable certificate in PEM form"


def test_settings_that_do_not_belong_together(files: Files) -> None:
    for arguments in (("--tls-cert", files.cert), ("--tls-key", files.key)):
        assert "--tls-cert and --tls-key go together" in said(run("serve", *arguments))
    assert "--tls-client-ca needs TLS" in said(run("serve", "--tls-client-ca", files.ca))


def test_a_key_that_others_can_read_is_warned_of(start: Start, files: Files, caplog: pytest.LogCaptureFixture) -> None:
    files.key.chmod(0o644)
    start(**files.settings)
    assert f"others on this machine can read the key in {files.key}: chmod 600 it" in caplog.messages


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "server.example"])
def test_clear_text_beyond_loopback_must_be_wanted(tmp_path: Path, model_dir: Path, files: Files, host: str) -> None:
    settings: dict[str, Any] = {"host": host, "port": 0, "data_dir": tmp_path / "data", "model_dir": model_dir}
    with pytest.raises(CannotListen) as caught:
        App(Settings(**settings))
    for way in ("--tls-cert", "--tls-key", "--host", "--insecure", "clear text"):
        assert way in str(caught.value)
    assert not (tmp_path / "data").exists()
    if host in ("0.0.0.0", "::"):
        for more in ({"insecure": True}, files.settings):
            App(Settings(**settings, **more)).stop()


def test_the_start_line_says_the_scheme(tmp_path: Path, model_dir: Path, files: Files) -> None:
    server = ServerProcess(tmp_path / "data", model_dir, "--host", "0.0.0.0", *files.flags)
    try:
        text = "".join(server.lines)
        assert f"listening on https://{server.address}/, data in" in text
        assert "clear text" not in text
    finally:
        assert server.terminate() == 0
