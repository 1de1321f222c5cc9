"""B7: an address never repeats the password that somebody has put into it."""

import pytest

import reflexio
from reflexio.channel import parse_url
from reflexio.errors import ConfigurationError

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        f"ada:{SECRET}@host:8081",
        f"ada:{SECRET}@host:8081/",
        f"{SECRET}@host:8081",
        f"http://ada:{SECRET}@host:8081/",
        f"http://{SECRET}@host/",
        f"HTTPS://ada:{SECRET}@host/",
        f"grpc://ada:{SECRET}@host:1",
        f"//ada:{SECRET}@host:1",
        f"http:/ada:{SECRET}@host",
        f"http:ada:{SECRET}@host",
        f"http:\\\\ada:{SECRET}@host",
        f"  ada:{SECRET}@host  ",
        f"ada:{SECRET}%40host:8081",
        f"http://ada%3A{SECRET}%40host:8081",
        f"ada:{SECRET}%2540host",
        f"ada:{SECRET}\uff20host:8081",
        f"http://ada:12/{SECRET}@host",
        f"http://ada:1?{SECRET}@host",
        f"http://ada:1#{SECRET}@host",
        f"http://ada:p@{SECRET}@host/",
        f"http://ada:{SECRET}@[::1/",
        f"http://ada:{SECRET}",
        f"http://host:8081/?api_key={SECRET}",
        f"host:8081?token={SECRET}",
        f"http://host:8081/{SECRET}",
        f"http://host:8081/#{SECRET}",
        f"ada:{SECRET} host:8081",
        f"ada:{SECRET}",
    ],
)
def test_no_spelling_shows_the_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (parse_url, lambda given: reflexio.ReflexioClient("", given)):
        with pytest.raises(ConfigurationError, match="the address has the form http://host:port/") as caught:
            make(url)
        assert SECRET not in str(caught.value) + repr(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    monkeypatch.setenv("REFLEXIO_API_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        reflexio.ReflexioClient()
    assert SECRET not in str(caught.value)


def test_what_holds_no_secret_is_still_shown() -> None:
    for url in ("localhost:8081", "127.0.0.1", "grpc://a:1", "http://a:0/"):
        with pytest.raises(ConfigurationError, match=f"'{url}'"):
            parse_url(url)
