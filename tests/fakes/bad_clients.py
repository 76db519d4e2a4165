"""Clients that misbehave, each in its own way, and a call that sends everything back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from sts_trio.core.link import SocketClosed
from tests.fakes.raw_client import BINARY, CLOSE, TEXT, frame, hear_head, upgrade

if TYPE_CHECKING:
    from sts_trio.core.link import Arrival, CallerSocket


async def echo(socket: CallerSocket, arrival: Arrival) -> None:
    """Send everything back; say a lot to who asks for it with the parameter `flood`."""
    async with trio.open_nursery() as nursery:
        if "flood" in arrival.query:
            nursery.start_soon(flood, socket)
        while not isinstance(message := await socket.receive(), SocketClosed):
            await socket.send(message if isinstance(message, str) else "binary")
        nursery.cancel_scope.cancel()


async def flood(socket: CallerSocket) -> None:
    while True:
        await socket.send("x" * 1000)


async def one_byte_after_upgrade(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + b"x")


async def body_with_upgrade(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade(extra=["Content-Length: 5"]) + b"hello")


async def frames_before_101(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(TEXT, b"early") * 40 + b"\xff" * 50)


async def big_message(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(TEXT, b"x" * 12_000_000))


async def big_message_in_pieces(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(TEXT, b"x" * 400_000, fin=False))
    for _ in range(30):
        await stream.send_all(frame(0, b"x" * 400_000, fin=False))


async def compressed_without_leave(stream: trio.abc.Stream) -> None:
    offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
    await stream.send_all(upgrade(extra=[offer]) + frame(TEXT, b"\xaa\x00", first=0x40))


async def garbage_frames(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade())
    await hear_head(stream)
    await stream.send_all(os.urandom(1000) + b"\xff" * 1000)


async def bad_utf8(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(TEXT, b"\xff\xfe"))


async def bad_close_frame(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(CLOSE, b"\x00"))


async def half_handshake(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade()[:40])


async def no_bytes_at_all(stream: trio.abc.Stream) -> None:
    pass


async def not_http(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n")


async def http2(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 64)


async def h2c(stream: trio.abc.Stream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n\r\n" + b"\x00" * 64)


async def huge_header(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade(extra=["X-Big: " + "x" * 200_000]))


async def broken_handshake(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade().replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Cay"))


async def odd_bytes_in_headers(stream: trio.abc.Stream) -> None:
    extra = ["Sec-WebSocket-Protocol: \xff\xfe", "X-UUID: \xff", "Cookie: \xff=\xfe"]
    await stream.send_all(upgrade(extra=extra))


async def silence_after_handshake(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade())


async def half_a_frame(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(BINARY, b"x" * 100)[:20])


async def vanishes(stream: trio.abc.Stream) -> None:
    await stream.send_all(upgrade() + frame(TEXT, b"x") * 100)
    await trio.aclose_forcefully(stream)


KINDS = [
    one_byte_after_upgrade,
    body_with_upgrade,
    frames_before_101,
    big_message,
    big_message_in_pieces,
    compressed_without_leave,
    garbage_frames,
    bad_utf8,
    bad_close_frame,
    half_handshake,
    no_bytes_at_all,
    not_http,
    http2,
    h2c,
    huge_header,
    broken_handshake,
    odd_bytes_in_headers,
    silence_after_handshake,
    half_a_frame,
    vanishes,
]
