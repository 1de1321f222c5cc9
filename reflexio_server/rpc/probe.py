"""Asks a server for its health as any client would, by grpc.health.v1."""

import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse.status, 1; read without protobuf, whose import takes longer than the call


@dataclass(frozen=True, slots=True)
class Trust:
    """What a TLS connection goes by.

    Attributes:
        certificates: PEM file of the authorities, or of the server's own certificate.
        client_certificate: PEM file to show, with `client_key`; None shows none.
        any_name: the certificate need not bear the name of the host.
    """

    certificates: Path
    client_certificate: Path | None
    client_key: Path | None
    any_name: bool


def fault(host: str, port: int, address: str, trust: Trust | None, timeout: float) -> str | None:
    """Why the server at `address` ("host:port") does not serve; None when it says that it does, within `timeout` s."""
    until = time.monotonic() + timeout
    options = [("grpc.enable_http_proxy", 0)]
    try:
        channel = _secure(host, port, address, trust, timeout, options) if trust else None
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error) or type(error).__name__
    with channel or grpc.insecure_channel(address, options=options) as asking:
        try:
            check: Any = asking.unary_unary(_CHECK)  # without serializers it takes and gives bytes
            answer: bytes = check(b"", timeout=max(0.001, until - time.monotonic()))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"no answer within {timeout:g} s"
            return f"{error.code().name} {error.details()}"
    return None if answer == _SERVING else "it says NOT_SERVING: it starts, stops, or cannot work"


def _secure(
    host: str, port: int, address: str, trust: Trust, timeout: float, options: list[tuple[str, int]]
) -> grpc.Channel:
    pair = [path.read_bytes() for path in (trust.client_key, trust.client_certificate) if path]
    credentials = grpc.ssl_channel_credentials(trust.certificates.read_bytes(), *pair)
    named = [("grpc.ssl_target_name_override", _name_of(host, port, trust, timeout))] if trust.any_name else []
    return grpc.secure_channel(address, credentials, options=[*options, *named])


def _name_of(host: str, port: int, trust: Trust, timeout: float) -> str:
    """A name that the server's certificate bears. Raises OSError when it is not trusted, or nobody listens."""
    context = ssl.create_default_context(cafile=trust.certificates)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself may be what is trusted
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), timeout) as plain, context.wrap_socket(plain) as secured:
        found = secured.getpeercert() or {}
    alternatives: Any = found.get("subjectAltName", ())
    names = [name for kind, name in alternatives if kind in ("DNS", "IP Address")]
    name: str = next(iter(names), host)
    return name.replace("*.", "health.")  # a certificate for *.example.com is good for any one name there
