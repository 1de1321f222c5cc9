"""URL -> channel, and the retry policy."""

import importlib
import ipaddress
import json
import re
import unicodedata
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import MethodOptions

from reflexio.errors import ConfigurationError
from reflexio.security import Tls, system_roots, with_environment
from reflexio.v1 import auth_service_pb2, interaction_service_pb2

# grpc imports this with the first channel; a fork at that moment would leave the child an import lock held for ever.
importlib.import_module("grpc._channel")

DEFAULT_URL = "http://127.0.0.1:8081/"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
_SEVERAL = re.compile(r"([a-z]+://)([^/?#]*,[^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HARMLESS = re.compile(r"([a-z]+://)?[\w.-]*(:\d*)?/?", re.IGNORECASE)  # anything else may have a secret in it
_FORM = "the address has the form http://host:port/ (plaintext) or https://host:port/ (TLS)"
_FORM_OF_SEVERAL = (
    "several addresses have the form http://10.0.0.1:8081,10.0.0.2:8081/; or give one name that DNS has all of them for"
)
KEEPALIVE = {
    # Finds out that a server is gone without a word, while calls wait for it. Reflexio's servers allow a ping every
    # 10 s; should something in between allow fewer and end the connection, grpc doubles the time by itself.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.ping_timeout_ms": 10_000,  # without it grpc waited a minute for the answer all the same
    "grpc.http2.max_pings_without_data": 0,  # go on with pings on a silent connection
}
_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    "retryableStatusCodes": ["UNAVAILABLE"],
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the server is.

    Attributes:
        url: for people, "http://127.0.0.1:8081/"; the same for several addresses in any order.
        target: for grpc, "127.0.0.1:8081".
        secure: TLS.
        loopback: the host is this machine; of several, each.
        balanced: several servers may be there, as the host is a name, or there are several: take turns, among those
            that say they serve.
        tls: certificates and keys, for TLS.
    """

    url: str
    target: str
    secure: bool
    loopback: bool
    balanced: bool = False
    tls: Tls = field(default=Tls(), repr=False)


def parse_url(url: str, tls: Tls | None = None) -> Endpoint:
    """The endpoint that a URL names, with TLS settings from the environment where none are given.

    Raises ConfigurationError, never showing a password in it.
    """
    tls = tls or Tls()
    if "@" in unicodedata.normalize("NFKC", unquote(unquote(url))):  # in any spelling, and wherever it stands
        raise ConfigurationError(f"the address must not hold a user name or password: use api_key; {_FORM}")
    if several := _SEVERAL.fullmatch(url.strip()):
        scheme, hosts, rest = several.groups()
        if url.count("://") > 1:
            raise ConfigurationError(f"the scheme stands once, before the first address; {_FORM_OF_SEVERAL}")
        return _together([_parse_one(f"{scheme}{host.strip()}{rest}", tls) for host in hosts.split(",")])
    return _parse_one(url, tls)


def _parse_one(url: str, tls: Tls) -> Endpoint:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"the address has a malformed host or port; {_FORM}") from None
    shown = repr(url) if _HARMLESS.fullmatch(url.strip()) else "the address"
    if parts.scheme not in _DEFAULT_PORTS:
        raise ConfigurationError(f"{shown} has no scheme http or https; {_FORM}")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigurationError(f"{shown} has a path, query or fragment, which gRPC cannot use; {_FORM}")
    host = parts.hostname or ""
    literal = _ip_address(host)
    if literal is None and not _HOST.fullmatch(host):
        raise ConfigurationError(f"{shown} names no valid host; {_FORM}")
    if port == 0:
        raise ConfigurationError(f"{shown} names port 0, where nothing can listen; {_FORM}")
    secure = parts.scheme == "https"
    if tls.given and not secure:
        raise ConfigurationError("certificates and keys are for https:// addresses only")
    host = f"[{host}]" if literal is not None and literal.version == 6 else host
    target = f"{host}:{port or _DEFAULT_PORTS[parts.scheme]}"
    loopback = host == "localhost" or (literal is not None and literal.is_loopback)
    named = literal is None and not loopback
    url = f"{parts.scheme}://{target}/"
    return Endpoint(url, target, secure, loopback, named, with_environment(tls) if secure else tls)


def _together(ones: list[Endpoint]) -> Endpoint:
    """One endpoint of several. gRPC takes addresses there, no names, and checks all certificates by one name."""
    if ones[0].secure:
        raise ConfigurationError(
            "https:// takes one host, as certificates are made for a name: give a name that DNS has all addresses for"
        )
    hosts = [urlsplit(one.url).hostname or "" for one in ones]
    literals = [_ip_address(host) for host in hosts]
    for host, literal in zip(hosts, literals, strict=True):
        if literal is None:
            raise ConfigurationError(f"{host!r} among several addresses is a name; {_FORM_OF_SEVERAL}")
    if len({literal.version for literal in literals if literal}) > 1:
        raise ConfigurationError(f"several addresses are all IPv4 or all IPv6; {_FORM_OF_SEVERAL}")
    targets = sorted(one.target for one in ones)
    for one, following in pairwise(targets):
        if one == following:
            raise ConfigurationError(f"{one} stands among the addresses twice; {_FORM_OF_SEVERAL}")
    joined = ",".join(targets)
    family = "ipv6" if ":" in hosts[0] else "ipv4"
    loopback = all(one.loopback for one in ones)
    return Endpoint(f"http://{joined}/", f"{family}:{joined}", False, loopback, balanced=True)


def _ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def open_channel(endpoint: Endpoint) -> grpc.Channel:
    """A channel for blocking calls. It connects at the first call."""
    if endpoint.secure:
        return grpc.secure_channel(endpoint.target, _credentials(endpoint), options=_options(endpoint))
    return grpc.insecure_channel(endpoint.target, options=_options(endpoint))


def open_aio_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    """A channel for awaited calls, bound to the running event loop. It connects at the first call."""
    if endpoint.secure:
        return grpc.aio.secure_channel(endpoint.target, _credentials(endpoint), options=_options(endpoint))
    return grpc.aio.insecure_channel(endpoint.target, options=_options(endpoint))


def _credentials(endpoint: Endpoint) -> grpc.ChannelCredentials:
    tls = endpoint.tls
    return grpc.ssl_channel_credentials(tls.root_certificates or system_roots(), tls.client_key, tls.client_certificate)


def _options(endpoint: Endpoint) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.primary_user_agent", "reflexio-python"),
        ("grpc.service_config", _BALANCED_CONFIG if endpoint.balanced else _SERVICE_CONFIG),
        # The service config above is the whole of it: ask no DNS server for another.
        ("grpc.service_config_disable_resolution", 1),
        *KEEPALIVE.items(),
        # grpc's own default waits up to 2 minutes before it looks again whether a server is back.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # A forked child must not find its parent's connections in a pool.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if endpoint.balanced:
        # grpc's own default asks DNS again after 30 s at the earliest: servers replaced one by one would be missed.
        options.append(("grpc.dns_min_time_between_resolutions_ms", 5_000))
    if endpoint.loopback or "," in endpoint.target:  # a proxy is asked for one address
        options.append(("grpc.enable_http_proxy", 0))
    return options


def _service_config() -> dict[str, Any]:
    """Retry what the contract declares free of side effects or idempotent."""
    repeatable = [
        {"service": service.full_name, "method": method.name}
        for file in (auth_service_pb2.DESCRIPTOR, interaction_service_pb2.DESCRIPTOR)
        for service in file.services_by_name.values()
        for method in service.methods
        if method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    ]
    return {"methodConfig": [{"name": repeatable, "retryPolicy": _RETRY_POLICY}]}


_SERVICE_CONFIG = json.dumps(_service_config())
_BALANCED_CONFIG = json.dumps(
    {
        **_service_config(),
        "loadBalancingConfig": [{"round_robin": {}}],
        # Each connection watches the health of its server as a whole, and has no turn while that does not serve. A
        # server without a health service has its turn.
        "healthCheckConfig": {"serviceName": ""},
    }
)
