"""Requests to the operator's services: what is sent, what is taken, and every way in which it can go wrong."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme

from sts_trio.http_client import MOST_BYTES, HttpClient, HttpFailed
from tests.tools.http_server import dripping, flooding, free_port, raw, reply, serving, silence

if TYPE_CHECKING:
    from tests.tools.http_server import Answer


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def client() -> HttpClient:
    return HttpClient(ssl.create_default_context())


async def test_a_get_sends_its_headers_and_takes_the_body_as_it_is(client: HttpClient) -> None:
    async with serving(reply(200, {"system": "Grüß dich"})) as server:
        got = await client.get(f"{server.url}/prompt?agent=7", seconds=5, headers={"X-DSAI-UUID": "u-1"})
    assert (got.status, json.loads(got.body)) == (200, {"system": "Grüß dich"})
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("GET", "/prompt?agent=7", b"")
    assert asked.headers["x-dsai-uuid"] == "u-1"
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_post_sends_json(client: HttpClient) -> None:
    async with serving(reply(200, {})) as server:
        await client.post_json(f"{server.url}/hangup", {"uuid": "u-1"}, seconds=5)
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == ("POST", "/hangup", b'{"uuid":"u-1"}')
    assert asked.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [204, 301, 404, 500, 503])
async def test_every_status_is_an_answer_and_no_redirect_is_followed(client: HttpClient, status: int) -> None:
    answer = raw(f"HTTP/1.1 {status} X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".encode(), close=False)
    async with serving(answer) as server:
        got = await client.get(server.url, seconds=5)
    assert got.status == status
    assert len(server.asked) == 1


async def test_the_connection_is_closed_after_the_answer(client: HttpClient) -> None:
    async with serving(reply(200, {})) as server:
        await client.get(server.url, seconds=5)
        with trio.fail_after(2):
            while not server.closed:
                await trio.sleep(0.001)


async def test_the_proxy_of_the_environment_is_not_used(client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(reply(200, {})) as server:
        assert (await client.get(server.url, seconds=5)).status == 200


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(silence, "did not answer within 0.2 s", id="silence"),
        pytest.param(dripping(HEAD + b"Content-Length: 9999\r\n\r\n", b"x"), "did not answer within 0.2 s", id="body"),
        pytest.param(dripping(HEAD, b"X-More: 1\r\n"), "did not answer within 0.2 s", id="headers"),
        pytest.param(dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "did not answer within 0.2 s", id="continue"),
        pytest.param(raw(HEAD, close=False), "did not answer within 0.2 s", id="half a head"),
    ],
)
async def test_the_time_limit_holds_however_slowly_bytes_come(client: HttpClient, answer: Answer, words: str) -> None:
    async with serving(answer) as server:
        began = trio.current_time()
        with pytest.raises(HttpFailed, match=words):
            await client.get(server.url, seconds=0.2)
    assert 0.19 < trio.current_time() - began < 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            flooding(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + bytes(4096) + b"\r\n"),
            "answered with more than 262144 bytes",
            id="endless chunks",
        ),
        pytest.param(
            flooding(HEAD + b"Content-Length: 999999999999\r\n\r\n", bytes(65536)),
            "answered with more than 262144 bytes",
            id="a huge body",
        ),
        pytest.param(flooding(HEAD, b"X-More: 1\r\n"), "Receive buffer too long", id="endless headers"),
        pytest.param(
            raw(HEAD + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10**7))), "compressed", id="a bomb"
        ),
        pytest.param(raw(), "Server disconnected without sending a response", id="closed without a word"),
        pytest.param(raw(HEAD + b"Content-Length: 10\r\n\r\n{"), "peer closed connection", id="closed in the body"),
        pytest.param(raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "illegal status line", id="no HTTP"),
        pytest.param(raw(bytes(range(256)) * 8), "illegal|Receive buffer|bare", id="garbage"),
    ],
)
async def test_no_usable_answer_is_one_line(client: HttpClient, answer: Answer, words: str) -> None:
    async with serving(answer) as server:
        with trio.fail_after(4), pytest.raises(HttpFailed, match=words) as caught:
            await client.get(f"{server.url}/prompt?key=s3cret", seconds=3)
    text = str(caught.value)
    assert text.startswith(f"{server.url}/prompt")
    assert text.isprintable()
    assert len(text) < 300
    assert "s3cret" not in text


async def test_the_longest_body_is_taken(client: HttpClient) -> None:
    async with serving(reply(200, bytes(MOST_BYTES))) as server:
        assert len((await client.get(server.url, seconds=5)).body) == MOST_BYTES


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refused_connection_says_so(client: HttpClient, host: str) -> None:
    url = f"http://{host}:{await free_port()}/transfer"
    with pytest.raises(HttpFailed) as caught:
        await client.get(url, seconds=5)
    assert str(caught.value) == f"{url}: Connection refused"


async def test_a_reset_connection_says_so(client: HttpClient) -> None:
    async def reset(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await stream.aclose()

    async with serving(reset) as server:
        with pytest.raises(HttpFailed, match=r": Connection reset by peer$"):
            await client.get(server.url, seconds=5)


async def test_a_name_that_is_not_known_says_so(client: HttpClient) -> None:
    class NoNames(trio.abc.HostnameResolver):
        async def getaddrinfo(self, *args: object, **kwargs: object) -> Any:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(self, *args: object) -> Any:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(NoNames())
    with pytest.raises(HttpFailed) as caught:
        await client.get("http://dsai-ami:6006/transfer", seconds=5)
    assert str(caught.value) == "http://dsai-ami:6006/transfer: Name or service not known"


@pytest.mark.parametrize(
    "url", ["", "no address", "http://", "http://[::1/", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", "http://a\nb/"]
)
async def test_what_is_no_address_fails_as_a_request_does(client: HttpClient, url: str) -> None:
    with pytest.raises(HttpFailed) as caught:
        await client.get(url, seconds=5)
    assert "\n" not in str(caught.value)


async def test_a_header_that_cannot_be_sent_fails_as_a_request_does(client: HttpClient) -> None:
    async with serving(reply(200, {})) as server:
        for value in ("a\r\nX-Other: b", "\N{SNOWMAN}"):
            with pytest.raises(HttpFailed):
                await client.get(server.url, seconds=5, headers={"X-DSAI-UUID": value})
    assert not server.asked


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_tls_is_verified(client: HttpClient, authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(reply(200, {"system": "x"}), server_tls(authority)) as server:
        assert (await HttpClient(trusting).get(server.url, seconds=5)).status == 200
        with pytest.raises(HttpFailed, match="its TLS certificate is not trusted: "):
            await client.get(server.url, seconds=5)
    assert len(server.asked) == 1


async def test_the_time_limit_holds_over_tls(authority: trustme.CA) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serving(silence, server_tls(authority)) as server:
        began = trio.current_time()
        with pytest.raises(HttpFailed, match=r"did not answer within 0\.3 s"):
            await HttpClient(trusting).get(server.url, seconds=0.3)
    assert trio.current_time() - began < 1


async def test_a_server_that_says_nothing_to_a_tls_handshake_costs_the_time_limit(client: HttpClient) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")  # the system connects, and nobody reads
    async with listener:
        began = trio.current_time()
        with pytest.raises(HttpFailed, match=r"did not answer within 0\.2 s"):
            await client.get(f"https://127.0.0.1:{listener.socket.getsockname()[1]}/", seconds=0.2)
    assert trio.current_time() - began < 1


async def test_a_server_without_tls_says_so(client: HttpClient) -> None:
    async with serving(raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        with pytest.raises(HttpFailed, match="TLS failed: "):
            await client.get(server.url.replace("http:", "https:"), seconds=2)


async def test_a_cancelled_request_ends_at_once(client: HttpClient) -> None:
    async with serving(dripping(HEAD + b"Content-Length: 9999\r\n\r\n", b"x")) as server:
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await client.get(server.url, seconds=30)
    assert scope.cancelled_caught
    assert trio.current_time() - began < 1


def test_the_first_request_imports_nothing() -> None:
    """An import takes tens of milliseconds, in which no call would get its audio."""
    script = """
import ssl, sys, trio
from sts_trio.http_client import HttpClient
client = HttpClient(ssl.create_default_context())
async def answer(stream):
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
async def main():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, answer, 0)
        port = listeners[0].socket.getsockname()[1]
        before = set(sys.modules)
        await client.post_json(f"http://127.0.0.1:{port}/", {"a": 1}, seconds=5)
        print(sorted(set(sys.modules) - before))
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
