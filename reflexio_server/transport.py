"""How the server listens: address, TLS, client certificates, and pings that find dead peers."""

import ipaddress
import logging
import math
import socket
import ssl
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from reflexio_server.config import Settings

logger = logging.getLogger(__name__)

MOST_METADATA_BYTES = 8 * 1024
CHANNEL_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),  # 64 slow streams held 1,246 MiB with it, 112 MiB without
    # Of a connection: further calls wait in their client. Our clients make 100 at once, and one that ended is counted
    # until grpc is done with it; what is beyond, as before a client has read the bound, grpc refuses (REFUSED_STREAM).
    ("grpc.max_concurrent_streams", 128),
    # Of all connections, until Admit sees them; beyond, grpc ends anybody's calls with CANCELLED, by chance at first.
    ("grpc.server.max_pending_requests", 4_000),
    ("grpc.server.max_pending_requests_hard_limit", 8_000),
    ("grpc.max_metadata_size", MOST_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MOST_METADATA_BYTES),
)
KEEPALIVE: dict[str, int] = {
    # A peer that is gone without a word holds a stream's place and a file until its ping is not answered.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 10_000,  # without it grpc waited a minute for the answer all the same
    "grpc.keepalive_permit_without_calls": 1,  # the server's pings; and clients may ping without a call too
    "grpc.http2.max_pings_without_data": 0,  # go on with pings on a silent connection
    # Our clients ping every 30 s; grpc's default of 5 minutes would end their idle streams (ENHANCE_YOUR_CALM).
    "grpc.http2.min_ping_interval_without_data_ms": 10_000,
}


class CannotListen(RuntimeError):
    """The address is not there or cannot be shared, something else listens on it, or what TLS needs is not usable."""


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files held when they were read."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class Transport:
    """Where and how to listen.

    Raises CannotListen when the certificate files cannot be used, when the system cannot share a port that is to be
    shared, and when the address is one that others can reach, there is no TLS, and nobody said that this is wanted.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._certificates: Certificates | None = None
        if settings.share_port and not hasattr(socket, "SO_REUSEPORT"):
            raise CannotListen(
                "this system has no SO_REUSEPORT, which --share-port needs: give each server a port of its own (--port)"
            )
        if settings.tls_cert and settings.tls_key:
            self._certificates = Certificates(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        elif not is_loopback(settings.host) and not settings.insecure:
            raise CannotListen(
                f"others can reach {settings.host}, and without TLS keys and everything else would go in clear text: "
                "give --tls-cert and --tls-key, or listen on 127.0.0.1 (--host) behind a proxy or tunnel that does "
                "TLS, or say --insecure if the network itself is private"
            )

    @property
    def scheme(self) -> str:
        """ "https" with TLS, else "http"."""
        return "https" if self._certificates else "http"

    @property
    def exposed(self) -> bool:
        return self._certificates is None and not is_loopback(self._settings.host)

    @property
    def longest_stream_seconds(self) -> float:
        """When a stream ends with its verdict: within the grace, if it began before its connection was too old."""
        if self._settings.max_connection_age_seconds is None:
            return math.inf
        return self._settings.max_connection_age_grace_seconds / 2

    def options(self) -> list[tuple[str, Any]]:
        """Those of gRPC's server that are about connections."""
        settings = self._settings
        # Shared only when told to: else a second server would get a part of the calls, and nobody would notice.
        options: list[tuple[str, Any]] = [("grpc.so_reuseport", int(settings.share_port))]
        if settings.max_connection_age_seconds is not None:
            grace = settings.max_connection_age_grace_seconds
            options.append(("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)))
            options.append(("grpc.max_connection_age_grace_ms", int(grace * 1000)))
        return [*CHANNEL_OPTIONS, *KEEPALIVE.items(), *options]

    def listen(self, server: grpc.Server) -> str:
        """Bind the server; returns "host:port". Raises CannotListen."""
        wanted = joined(self._settings.host, self._settings.port)
        try:
            if self._certificates:
                port = server.add_secure_port(wanted, self._certificates.credentials())
            else:
                port = server.add_insecure_port(wanted)
        except RuntimeError:
            raise CannotListen(
                f"cannot listen on {wanted}: another program may be using the port "
                "(choose another with --port, or 0 for a free one), or the address is not this machine's"
            ) from None
        return joined(self._settings.host, port)


class Certificates:
    """The server's certificate and key, and the authority of its clients, followed as their files change.

    Every new connection looks at the files: they are small, and a handshake costs far more. Connections that are open
    keep what they began with. A changed set that cannot be used is logged once and the one before stays in use.

    Raises CannotListen when the first set cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = (certificate, key, client_ca)
        self._lock = threading.Lock()
        self._complaint = ""
        try:
            self._used = self._read()
            self._check(self._used)
        except UnusablePem as error:
            raise CannotListen(str(error)) from None
        if key.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
            logger.warning("others on this machine can read the key in %s: chmod 600 it", key)

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files."""
        needed = self._used.client_ca is not None
        fetch: Any = self._changed  # its type says nothing of None, by which grpc keeps what it has
        return grpc.dynamic_ssl_server_credentials(_configuration(self._used), fetch, needed)

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What the files hold now, if it is new and can be used; grpc asks at each handshake."""
        with self._lock:
            try:
                found = self._read()
                if found != self._used:
                    self._check(found)
            except UnusablePem as error:
                if str(error) != self._complaint:
                    logger.error("%s; the certificate before stays in use", error)
                self._complaint = str(error)
                return None
            self._complaint = ""
            if found == self._used:
                return None
            self._used = found
            logger.info("now using the changed certificate in %s", self._paths[0])
            return _configuration(found)

    def _read(self) -> Pems:
        certificate, key, client_ca = self._paths
        return Pems(_bytes(certificate), _bytes(key), _bytes(client_ca) if client_ca else None)

    def _check(self, found: Pems) -> None:
        """Raises UnusablePem naming the file that is wrong."""
        certificate, key, client_ca = self._paths
        for path, data, kind in ((certificate, found.certificate, b"CERTIFICATE"), (key, found.key, b"PRIVATE KEY")):
            if b"-----BEGIN " not in data or kind not in data:
                raise UnusablePem(f"{path} holds no {kind.decode().lower()} in PEM form (-----BEGIN …-----)")
        if b"ENCRYPTED" in found.key:
            raise UnusablePem(f"the key in {key} has a passphrase, which nobody can type here: give one without")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise UnusablePem(f"the key in {key} does not belong to the certificate in {certificate}") from None
            raise UnusablePem(f"{certificate} or {key} is damaged ({error.reason or 'no valid PEM'})") from None
        except OSError as error:
            raise UnusablePem(f"cannot read {error.filename}: {error.strerror}") from None
        if client_ca and found.client_ca is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=found.client_ca.decode("ascii"))
            except (ssl.SSLError, ValueError):
                raise UnusablePem(f"{client_ca} holds no usable certificate in PEM form") from None
        if self._read() != found:
            raise UnusablePem(f"{certificate} and {key} changed while they were read")


class UnusablePem(Exception):
    """A file is missing, is no PEM, or does not fit the others; the text is for the operator."""


def joined(host: str, port: int) -> str:
    """ "host:port", as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusablePem(f"cannot read {path}: {error.strerror}") from None


def _configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], root_certificates=pems.client_ca)
