import json
import re

import grpc
import pytest

from reflexio.channel import _SERVICE_CONFIG, _options, open_channel, parse_url
from reflexio.errors import ConfigurationError
from tests.client.scripted_server import ScriptedServer


@pytest.mark.parametrize(
    ("url", "target", "secure", "loopback"),
    [
        ("http://127.0.0.1:8081/", "127.0.0.1:8081", False, True),
        ("http://localhost:8081", "localhost:8081", False, True),
        ("https://reflexio.example.com/", "reflexio.example.com:443", True, False),
        ("http://reflexio.example.com", "reflexio.example.com:80", False, False),
        ("http://[::1]:8081/", "[::1]:8081", False, True),
        ("HTTPS://Host.Example:9/", "host.example:9", True, False),
        ("  http://a:1/\n", "a:1", False, False),
        ("http://10.0.0.2:1,10.0.0.1:2/", "ipv4:10.0.0.1:2,10.0.0.2:1", False, False),
        ("http://127.0.0.1:1, 127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2", False, True),
        ("http://127.0.0.1:1,10.0.0.1:2", "ipv4:10.0.0.1:2,127.0.0.1:1", False, False),
        ("http://[::1]:1,[::1]/", "ipv6:[::1]:1,[::1]:80", False, True),
    ],
)
def test_addresses(url: str, target: str, secure: bool, loopback: bool) -> None:
    endpoint = parse_url(url)
    assert (endpoint.target, endpoint.secure, endpoint.loopback) == (target, secure, loopback)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("127.0.0.1:8081", "scheme"),
        ("localhost:8081", "scheme"),
        ("grpc://a:1", "scheme"),
        ("http://", "host"),
        ("http://:8081/", "host"),
        ("http://a b:1/", "host"),
        ("http://-a:1/", "host"),
        ("http://a:1/api", "path"),
        ("http://a:1/?x=1", "query"),
        ("http://a:1/#x", "fragment"),
        ("http://a:99999/", "port"),
        ("http://a:0/", "port"),
        ("http://a:x/", "port"),
        ("http://[::1/", "host"),
        ("http://10.0.0.1:1,", "host"),
        ("http://10.0.0.1:1,10.0.0.2:x/", "port"),
        ("http://10.0.0.1:1,10.0.0.2:1/api", "path"),
        ("10.0.0.1:1,10.0.0.2:1", "scheme"),
    ],
)
def test_malformed_addresses_say_what_is_wrong(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        parse_url(url)
    assert "http://host:port/" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://10.0.0.1:1,http://10.0.0.2:1", "the scheme stands once"),
        ("http://10.0.0.1:1,reflexio.example.com:1", "'reflexio.example.com' among several addresses is a name"),
        ("http://localhost:1,localhost:2", "'localhost' among several addresses is a name"),
        ("http://10.0.0.1:1,[::1]:1", "all IPv4 or all IPv6"),
        ("http://10.0.0.1:80,10.0.0.1", "10.0.0.1:80 stands among the addresses twice"),
        ("https://10.0.0.1,10.0.0.2", "https:// takes one host"),
    ],
)
def test_addresses_that_do_not_go_together_say_why(url: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        parse_url(url)
    assert re.search("one name that DNS has|a name that DNS has", str(caught.value))


def test_several_are_the_same_in_any_order() -> None:
    assert parse_url("http://10.0.0.2:1,10.0.0.10:1") == parse_url("http://10.0.0.10:1,10.0.0.2:1/")


@pytest.mark.parametrize(
    ("url", "balanced"),
    [
        ("http://127.0.0.1:1/", False),
        ("http://10.0.0.1:1/", False),
        ("http://localhost:1/", False),
        ("https://[2001:db8::1]/", False),
        ("https://reflexio.example.com/", True),
        ("http://reflexio:8081/", True),
        ("http://10.0.0.1:1,10.0.0.2:1/", True),
    ],
)
def test_turns_are_taken_where_several_may_be(url: str, balanced: bool) -> None:
    options = dict(_options(parse_url(url)))
    config = json.loads(options["grpc.service_config"])
    assert config["methodConfig"] == json.loads(_SERVICE_CONFIG)["methodConfig"]
    assert config.get("loadBalancingConfig") == ([{"round_robin": {}}] if balanced else None)
    assert config.get("healthCheckConfig") == ({"serviceName": ""} if balanced else None)
    assert (options.get("grpc.enable_http_proxy") == 0) == ("," in url or url.startswith(("http://127", "http://loc")))


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="user name") as caught:
        parse_url("http://me:secret@host:1/")
    assert "secret" not in str(caught.value)


def test_only_what_may_be_repeated_is_repeated_by_grpc() -> None:
    (config,) = json.loads(_SERVICE_CONFIG)["methodConfig"]
    assert {name["method"] for name in config["name"]} == {
        "SearchInteractions",
        "GetInteractions",
        "GetRequests",
        "GetImage",
        "WhoAmI",
        "ListApiKeys",
        "RevokeApiKey",
        "DeleteInteraction",
        "DeleteRequest",
        "DeleteRequestGroup",
        "DeleteUser",
    }
    assert config["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_loopback_goes_by_no_proxy() -> None:
    assert ("grpc.enable_http_proxy", 0) in _options(parse_url("http://127.0.0.1:1/"))
    assert ("grpc.enable_http_proxy", 0) not in _options(parse_url("http://example.com:1/"))


def test_tls_reaches_no_plaintext_server(server: ScriptedServer) -> None:
    with open_channel(parse_url(server.url.replace("http", "https"))) as channel:
        call = channel.unary_unary("/reflexio.v1.AuthService/Login", bytes, bytes)
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=10)
    assert server.calls == []
