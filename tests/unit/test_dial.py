"""Where a provider listens, read from its URL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.providers.dial import Endpoint, first_line
from sts_trio.text import one_line


@pytest.mark.parametrize(
    ("url", "endpoint", "host_header"),
    [
        (
            "wss://api.hume.ai/v0/evi/chat",
            Endpoint("api.hume.ai", 443, "/v0/evi/chat", tls=True),
            "api.hume.ai",
        ),
        ("ws://127.0.0.1:6040", Endpoint("127.0.0.1", 6040, "/", tls=False), "127.0.0.1:6040"),
        ("ws://evi/chat?a=b%20c&d", Endpoint("evi", 80, "/chat?a=b%20c&d", tls=False), "evi"),
        ("ws://evi:443/", Endpoint("evi", 443, "/", tls=False), "evi:443"),
        ("wss://evi:80/", Endpoint("evi", 80, "/", tls=True), "evi:80"),
        ("wss://evi:443/", Endpoint("evi", 443, "/", tls=True), "evi"),
        ("https://evi/x", Endpoint("evi", 443, "/x", tls=True), "evi"),
        ("http://evi:8080/x", Endpoint("evi", 8080, "/x", tls=False), "evi:8080"),
        ("ws://[::1]/x", Endpoint("::1", 80, "/x", tls=False), "[::1]"),
        ("ws://[::1]:8000", Endpoint("::1", 8000, "/", tls=False), "[::1]:8000"),
        ("WSS://EVI.example/#part", Endpoint("evi.example", 443, "/", tls=True), "evi.example"),
    ],
)
def test_a_websocket_url_is_an_endpoint(url: str, endpoint: Endpoint, host_header: str) -> None:
    assert Endpoint.from_url(url) == endpoint
    assert endpoint.host_header == host_header


@pytest.mark.parametrize(
    ("url", "lacks"),
    [
        ("ftp://api.hume.ai", "ws:// or wss://"),
        ("api.hume.ai/chat", "ws:// or wss://"),
        ("", "ws:// or wss://"),
        ("ws://", "no host"),
        ("ws:///chat", "no host"),
        ("wss://:443/", "no host"),
        ("wss://hümé/", "no host"),
        ("wss://evi:99999/", "0-65535"),
        ("wss://evi:x/", "Port"),
        ("wss://[::1/", "IPv6"),
    ],
)
def test_any_other_url_is_refused_with_what_it_lacks(url: str, lacks: str) -> None:
    with pytest.raises(ValueError, match=lacks) as info:
        Endpoint.from_url(url)
    assert not isinstance(info.value, UnicodeError)


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda rest: "wss://" + rest))
def test_any_text_is_an_endpoint_or_a_value_error(url: str) -> None:
    try:
        endpoint = Endpoint.from_url(url)
    except ValueError:
        return
    assert endpoint.host
    assert 0 < endpoint.port < 65_536
    assert endpoint.path.startswith("/")


def test_what_a_peer_or_library_said_stays_on_one_line() -> None:
    assert one_line(" no\r\n such\tkey ") == "no such key"
    assert first_line(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert first_line(ValueError("one\ntwo")) == "one two"
    assert first_line(ValueError()) == "ValueError"
    assert len(first_line(ValueError("x" * 5000))) == 200
