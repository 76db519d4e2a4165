"""TLS whose records are made and read without waiting; trio's own SSLStream is the far end, and the oracle."""

from __future__ import annotations

import socket as stdlib
import ssl
import subprocess
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
import trustme

from sts_trio.errors import ProviderLost
from sts_trio.providers.dial import Endpoint, TcpDial
from sts_trio.providers.hume.settings import HumeSettings
from sts_trio.settings import Settings
from sts_trio.settings.parsers import Secret
from sts_trio.websocket.fast_path import FastPath
from sts_trio.websocket.frames import BINARY, TEXT, ClientFramer, FrameParser
from sts_trio.websocket.tls import TlsStream, client_context
from sts_trio.wiring import trust
from tests.fakes.programs import NEEDS_OPENSSL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

AUTHORITY = trustme.CA()
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
LONG = bytes(range(256)) * 400  # seven records


def ours(version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.maximum_version = version
    return context


def theirs() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    AUTHORITY.issue_cert("evi.example").configure_cert(context)
    return context


async def open_pair(
    near: trio.abc.Stream, far: trio.abc.Stream, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> tuple[TlsStream, trio.SSLStream[trio.abc.Stream]]:
    client = TlsStream(near, ours(version), "evi.example")
    server = trio.SSLStream(far, theirs(), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.do_handshake)
        await client.do_handshake()
    return client, server


class Crumbs(trio.abc.Stream):
    """Hands on what another stream receives, a few bytes at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._waiting = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if not self._waiting:
            self._waiting = bytes(await self._stream.receive_some())
        crumb, self._waiting = self._waiting[:1000], self._waiting[1000:]
        return crumb

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def read(stream: trio.abc.Stream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = await stream.receive_some(4096)
        assert more, "the stream ended"
        data += more
    return data


@VERSIONS
async def test_what_is_said_arrives_both_ways_however_it_is_cut(version: ssl.TLSVersion) -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = await open_pair(Crumbs(near), far, version)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"hello" + LONG)
        nursery.start_soon(server.send_all, LONG + b"bye")
        assert await read(server, 5 + len(LONG)) == b"hello" + LONG
        assert await read(client, 3 + len(LONG)) == LONG + b"bye"


async def test_what_is_sealed_by_hand_is_read_as_what_was_sent() -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = await open_pair(near, far)
    await near.send_all(client.seal(b"one") + client.seal(b"two"))
    await client.send_all(b"three")
    assert await read(server, 11) == b"onetwothree"
    await server.send_all(b"four")
    sealed = bytes(await near.receive_some())
    assert client.unseal(sealed[:7]) is None
    assert client.unseal(sealed[7:]) == b"four"


async def test_words_that_come_with_the_handshake_are_not_lost() -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = TlsStream(near, ours(), "evi.example"), trio.SSLStream(far, theirs(), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"welcome")
        await client.do_handshake()
        await trio.testing.wait_all_tasks_blocked()
        assert await read(client, 7) == b"welcome"


@pytest.mark.parametrize("polite", [True, False])
async def test_an_end_is_an_end_with_a_close_notify_or_without(polite: bool) -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = await open_pair(near, far)
    await server.send_all(b"last words")
    with trio.move_on_after(0.1):
        await (server.aclose() if polite else far.aclose())
    assert [await client.receive_some(), await client.receive_some(), await client.receive_some()] == [
        b"last words",
        b"",
        b"",
    ]


async def test_what_is_no_record_breaks_the_stream() -> None:
    near, far = trio.testing.memory_stream_pair()
    client, _ = await open_pair(near, far)
    await far.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some()


ALERT = b"\x15\x03\x03\x00\x02\x02\x28"  # handshake_failure, in the clear: TLS is broken with it


async def sealed_by(server: trio.SSLStream[trio.abc.Stream], near: trio.abc.Stream, said: bytes) -> bytes:
    """What a server writes for `said`, as it comes to `near`."""
    await server.send_all(said)
    return bytes(await near.receive_some())


@VERSIONS
async def test_what_comes_in_one_read_with_the_alert_is_not_lost(version: ssl.TLSVersion) -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = await open_pair(near, far, version)
    assert client.unseal(await sealed_by(server, near, b"last") + ALERT) == b"last"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


@pytest.mark.parametrize("forcefully", [False, True])
async def test_the_end_is_told_with_a_close_notify(nursery: trio.Nursery, forcefully: bool) -> None:
    ends: list[bytes] = []
    heard = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        server = trio.SSLStream(stream, theirs(), server_side=True)  # not https_compatible: a bare end is an error
        while said := bytes(await server.receive_some()):
            ends.append(said)
        ends.append(said)
        heard.set()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    client = TlsStream(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]), ours(), "evi.example")
    await client.do_handshake()
    await client.send_all(b"bye")
    if forcefully:
        await trio.aclose_forcefully(client)
    else:
        await client.aclose()
    await client.aclose()  # again: nothing
    with trio.fail_after(2):
        await heard.wait()
    assert ends == [b"bye", b""]
    nursery.cancel_scope.cancel()


async def test_the_end_is_told_with_a_close_notify_also_in_memory() -> None:
    near, far = trio.testing.memory_stream_pair()
    client, server = await open_pair(near, far)
    await client.aclose()
    assert await server.receive_some() == b""


def test_keys_are_not_renegotiated() -> None:
    assert trust(Settings(provider=HumeSettings(api_key=Secret("key")))).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("way", ["a message", "the library"])
async def test_a_write_that_fails_ends_the_stream_after_the_last_words(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The socket lives, the peer speaks on: as while keys are renegotiated."""
    broken, said = trio.Event(), trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        server = trio.SSLStream(stream, theirs(), server_side=True, https_compatible=True)
        with suppress(trio.BrokenResourceError):
            await server.do_handshake()
            await broken.wait()
            await server.send_all(b"\x81\x09last word")
            said.set()
            while True:
                await trio.sleep(0.05)
                await server.send_all(b"\x81\x01.")

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    client = TlsStream(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]), ours(), "evi.example")
    await client.do_handshake()
    fast_path = FastPath(client, FrameParser(masked=False, most=1000), queued=100)
    fast_path.open()

    def in_vain(data: object) -> bytes:
        raise trio.BrokenResourceError

    monkeypatch.setattr(client, "seal", in_vain)
    heard: list[str | bytes | None] = []

    async def listen() -> None:
        while not heard or heard[-1] is not None:
            heard.append(await fast_path.receive())

    with trio.fail_after(1):
        async with trio.open_nursery() as listening:
            listening.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(trio.BrokenResourceError):
                await (fast_path.send(TEXT, b"hello") if way == "a message" else fast_path.send_all(b"\x89\x00"))
            broken.set()
        with pytest.raises(trio.BrokenResourceError):
            await fast_path.receive_some()
    assert heard[0] == "last word"
    await trio.aclose_forcefully(fast_path)
    nursery.cancel_scope.cancel()


async def serve(answer: Callable[[trio.SocketStream], Awaitable[None]], nursery: trio.Nursery) -> Endpoint:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    return Endpoint("127.0.0.1", listener.socket.getsockname()[1], "/", tls=True)


@pytest.mark.parametrize(
    ("said", "cause"),
    [(b"", "the peer ended the connection"), (b"HTTP/1.1 400 Bad Request\r\n\r\n", "(WRONG_VERSION|wrong version)")],
)
async def test_a_server_that_does_not_speak_tls_is_told_with_the_cause(
    nursery: trio.Nursery, said: bytes, cause: str
) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)
        await stream.send_eof()
        while await stream.receive_some():
            pass

    endpoint = await serve(answer, nursery)
    with trio.fail_after(5), pytest.raises(ProviderLost, match=rf"TLS handshake with 127.0.0.1:\d+ failed: .*{cause}"):
        await TcpDial(ours())(endpoint)
    nursery.cancel_scope.cancel()


async def test_a_lane_over_tls_keeps_every_message_whole_and_in_order(nursery: trio.Nursery) -> None:
    """More than the kernel takes, from two tasks at once, with a reader that begins late; and as much the other way."""
    many = [b"%04d" % number + LONG for number in range(40)]
    received: list[str | bytes] = []
    reading = trio.Event()

    async def answer(stream: trio.SocketStream) -> None:
        server = trio.SSLStream(stream, theirs(), server_side=True, https_compatible=True)
        plain = FrameParser(masked=True, most=2**20)
        await server.do_handshake()
        await reading.wait()
        while len(received) < 2 * len(many):
            received.extend(plain.feed(bytes(await server.receive_some()))[0])
        with suppress(trio.BrokenResourceError):
            await server.send_all(b"".join(b"\x82\x7f" + len(one).to_bytes(8) + one for one in many))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    socket = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    socket.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 4096)
    client = TlsStream(socket, ours(), "evi.example")
    await client.do_handshake()
    fast_path = FastPath(client, FrameParser(masked=False, most=2**20), queued=10, make=ClientFramer().frame)
    fast_path.open()

    async def say(kind: int) -> None:
        for one in many:
            await fast_path.send(kind, one if kind == BINARY else one[:4])

    with trio.fail_after(10):
        async with trio.open_nursery() as speakers:
            speakers.start_soon(say, BINARY)
            speakers.start_soon(say, TEXT)
            await trio.sleep(0.05)
            reading.set()
        assert [await fast_path.receive() for _ in many] == many
    assert [message for message in received if isinstance(message, bytes)] == many
    assert [message for message in received if isinstance(message, str)] == [one[:4].decode() for one in many]
    await trio.aclose_forcefully(fast_path)
    nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["close_notify", "words and close_notify", "no record"])
async def test_a_lane_learns_of_the_end_of_tls_though_the_connection_stays_open(
    nursery: trio.Nursery, how: str
) -> None:
    """Both who wait for messages and the library; else only the next ping would show it."""

    async def answer(stream: trio.SocketStream) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = theirs().wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await stream.send_all(outgoing.read())
                incoming.write(bytes(await stream.receive_some()))
        await stream.send_all(outgoing.read())
        if how.startswith("words"):
            tls.write(b"\x81\x03bye")
        if how == "no record":
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        else:
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
            await stream.send_all(outgoing.read())
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, answer, [listener])
    client = TlsStream(await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1]), ours(), "evi.example")
    await client.do_handshake()
    fast_path = FastPath(client, FrameParser(masked=False, most=1000), queued=10)
    fast_path.open()
    with trio.fail_after(2):
        heard = [await fast_path.receive() for _ in range(2)]
        assert heard == (["bye", None] if how.startswith("words") else [None, None])
        assert await fast_path.receive_some() == b""
    await trio.aclose_forcefully(fast_path)
    nursery.cancel_scope.cancel()


@NEEDS_OPENSSL
@pytest.mark.parametrize(
    ("asks", "allowed"), [("", False), ("r", False), ("r", True)], ids=["never", "as we are", "where we allow it"]
)
async def test_a_server_that_renegotiates_keys_hears_us_or_the_stream_ends_within_a_second(
    nursery: trio.Nursery, tmp_path: Path, asks: str, allowed: bool
) -> None:
    """OpenSSL's own server, told to renegotiate. What is never to happen: writes that go nowhere while reads go on."""
    leaf = AUTHORITY.issue_cert("evi.example")
    leaf.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    with stdlib.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["openssl", "s_server", "-tls1_2", "-accept", f"127.0.0.1:{port}", "-cert", str(tmp_path / "server.pem")]
    run = partial(
        trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    server: trio.Process = await nursery.start(run, command)
    assert server.stdin is not None
    assert server.stdout is not None
    with trio.fail_after(10):
        while b"ACCEPT" not in await server.stdout.receive_some():
            pass
        context = client_context()
        AUTHORITY.configure_trust(context)
        if allowed:
            context.options &= ~ssl.OP_NO_RENEGOTIATION
        client = TlsStream(await trio.open_tcp_stream("127.0.0.1", port), context, "evi.example")
        await client.do_handshake()
        fast_path = FastPath(client, FrameParser(masked=False, most=1000), queued=100, make=ClientFramer().frame)
        fast_path.open()
        ended = trio.Event()

        async def listen() -> None:
            while await fast_path.receive() is not None:
                pass
            ended.set()

        nursery.start_soon(listen)
        await trio.sleep(0.1)
        await server.stdin.send_all(f"{asks}\n".encode())
        heard = trio.Event()

        async def watch(stream: trio.abc.ReceiveStream) -> None:
            said = b""
            while more := await stream.receive_some():
                said += more
                if said.count(b"renegotiated") > 20:
                    heard.set()

        nursery.start_soon(watch, server.stdout)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            for number in range(60):
                await fast_path.send(BINARY, b"\x00" * (number % 3))  # a frame's mask would hide words
                await fast_path.send_all(b"renegotiated\n")
                await trio.sleep(0.02)
            await trio.sleep(0.2)
        with trio.move_on_after(1):
            await ended.wait()
        assert heard.is_set() or ended.is_set()
        assert asks or heard.is_set()
    await trio.aclose_forcefully(fast_path)
    nursery.cancel_scope.cancel()
