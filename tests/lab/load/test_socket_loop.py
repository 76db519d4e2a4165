"""The sockets of a load, plain and encrypted: the handshake, bytes that come with it, and a far end that is slow."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from sts_trio.lab.load.handshake import check_certificate, server_context, take_chat
from sts_trio.lab.load.process import LoadError
from sts_trio.lab.load.socket_loop import SocketLoop, TimerHeap
from sts_trio.lab.websocket import BINARY, TEXT, ClientFramer, FrameReader, encode_frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sts_trio.lab.load.socket_loop import Connection
    from sts_trio.lab.websocket import Message

UPGRADE = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key, certificate and authority, in one file."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "tls.pem"
    cert = authority.issue_cert("127.0.0.1")
    path.write_bytes(cert.private_key_and_cert_chain_pem.bytes() + authority.cert_pem.bytes())
    return path


class Keeper:
    """Keeps what is said, and why it was over."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.over = ""

    def hear(self, message: Message) -> None:
        self.heard.append(message)

    def gone(self, why: str) -> None:
        self.over = why


async def until(what: object, seconds: float = 5.0) -> None:
    with trio.fail_after(seconds):
        while not what():  # type: ignore[operator]
            await trio.sleep(0.005)


@pytest.fixture(params=["plain", "tls"])
async def ends(
    request: pytest.FixtureRequest, nursery: trio.Nursery, certificate: Path
) -> AsyncIterator[tuple[Connection, Keeper, trio.abc.Stream]]:
    """A connection in a loop, with little room in the kernel, and the client's end of it."""
    tls = request.param == "tls"
    loop = SocketLoop(TimerHeap())
    nursery.start_soon(loop.run)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    client = trio.socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await client.connect(listener.socket.getsockname())
    accepted = await listener.accept()
    accepted.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    stream: trio.abc.Stream = trio.SocketStream(client)
    if tls:
        trusting = ssl.create_default_context(cafile=str(certificate))
        stream = trio.SSLStream(stream, trusting, server_hostname="127.0.0.1")
    keeper = Keeper()
    # With the request, in the same TLS record, come messages: 9 KB.
    early = b"".join(ClientFramer(b"abcd").encode(BINARY, bytes([n]) * 3000) for n in range(3))
    nursery.start_soon(stream.send_all, UPGRADE + early)
    sock, rest = await take_chat(accepted.socket, server_context(str(certificate)) if tls else None)
    connection = loop.join(sock, rest, keeper, encode_frame)
    yield connection, keeper, stream
    connection.close()
    await trio.aclose_forcefully(stream)
    await listener.aclose()


async def test_what_comes_with_the_handshake_is_heard(
    ends: tuple[Connection, Keeper, trio.abc.Stream],
) -> None:
    _, keeper, stream = ends
    await until(lambda: len(keeper.heard) == 3)
    assert [message.data for message in keeper.heard] == [bytes([n]) * 3000 for n in range(3)]
    await stream.send_all(ClientFramer(b"abcd").encode(TEXT, b"later"))
    await until(lambda: len(keeper.heard) == 4)
    assert keeper.heard[3] == (TEXT, b"later")


async def test_what_a_slow_far_end_does_not_take_at_once_goes_when_it_does_without_another_message(
    ends: tuple[Connection, Keeper, trio.abc.Stream],
) -> None:
    connection, _, stream = ends
    said = [bytes([n]) * 50_000 for n in range(4)]
    for data in said:
        connection.send(BINARY, data)
    assert connection._unsent
    got: list[bytes] = []
    reader, head = FrameReader(), b""
    with trio.fail_after(5):
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        got += [message.data for message in reader.feed(head.partition(b"\r\n\r\n")[2])]
        while len(got) < 4:
            got += [message.data for message in reader.feed(bytes(await stream.receive_some()))]
    assert got == said
    await until(lambda: not connection._unsent)
    assert connection.open


async def test_who_stops_reading_is_let_go(ends: tuple[Connection, Keeper, trio.abc.Stream]) -> None:
    connection, keeper, _ = ends
    for _ in range(8):
        connection.send(BINARY, bytes(50_000))
    assert not connection.open
    assert keeper.over == "the far end has stopped reading"


async def test_who_closes_is_gone(ends: tuple[Connection, Keeper, trio.abc.Stream]) -> None:
    connection, keeper, stream = ends
    await trio.aclose_forcefully(stream)
    await until(lambda: keeper.over)
    assert not connection.open


async def test_a_close_ends_the_stream_for_the_far_end(ends: tuple[Connection, Keeper, trio.abc.Stream]) -> None:
    connection, keeper, stream = ends
    await until(lambda: len(keeper.heard) == 3)
    connection.close()
    got = b""
    with trio.fail_after(5):
        while more := await stream.receive_some():  # a TLS stream that ends without saying so would raise here
            got += more
    assert got.endswith(encode_frame(8, (1000).to_bytes(2, "big")))


async def test_a_client_that_does_not_trust_the_certificate_is_one_that_failed_to_come(
    nursery: trio.Nursery, certificate: Path
) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port)
    accepted = await listener.accept()

    async def ask() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(UPGRADE)
        await trio.aclose_forcefully(stream)

    nursery.start_soon(ask)
    with pytest.raises(ssl.SSLError):
        await take_chat(accepted.socket, server_context(str(certificate)))
    await listener.aclose()


def test_a_certificate_that_no_client_would_take_is_one_line_before_the_run(certificate: Path, tmp_path: Path) -> None:
    check_certificate(str(certificate), "127.0.0.1")
    with pytest.raises(LoadError, match=r"tls.pem: no client would accept it for 127.0.0.2: .*'127.0.0.2'"):
        check_certificate(str(certificate), "127.0.0.2")
    half = tmp_path / "half.pem"
    half.write_bytes(certificate.read_bytes().partition(b"-----BEGIN CERT")[0])
    for path in (half, tmp_path / "none.pem"):
        with pytest.raises(LoadError, match=r"half|none.pem: it must hold a key and its certificate \(PEM\): "):
            check_certificate(str(path), "127.0.0.1")
