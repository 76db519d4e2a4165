"""Every kind of bad client, beside a good call that never notices."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.core.link import SocketClosed
from sts_trio.web.call_socket import LINGER_SECONDS
from sts_trio.web.guards import SEND_SECONDS
from tests.fakes.raw_client import BINARY, CLOSE, TEXT, frame, hear, hear_head, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.core.link import Arrival, CallerSocket
    from tests.conftest import Logged

DEAD = 10.0


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


async def good_call(wire: Wire, stop: trio.Event) -> None:
    """A call that sends a message each 20 ms and must have it back at once, until the bad one is over."""
    async with await wire.call() as ws:
        count = 0
        while not stop.is_set() or count < 50:
            count += 1
            start = trio.current_time()
            await ws.send_message(str(count))
            assert await ws.get_message() == str(count)
            assert trio.current_time() == start
            await trio.sleep(0.02)


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


@pytest.mark.parametrize("bad", KINDS, ids=lambda kind: kind.__name__)
async def test_costs_only_its_own_connection(
    bad: Callable[[trio.abc.Stream], Awaitable[None]],
    autojump_clock: trio.testing.MockClock,
    logged: Logged,
) -> None:
    """Many of a kind at once: the good call goes on, every bad connection is gone in bounded time, quietly."""
    async with open_door(echo, ping_seconds=4, dead_seconds=DEAD) as wire:

        async def one() -> None:
            stream = await wire.connect()
            try:
                await bad(stream)
                await hear(stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            await trio.sleep(LINGER_SECONDS)  # what we have heard the end of is still listened to

        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(good_call, wire, over)
            with trio.fail_after(DEAD + 3):
                async with trio.open_nursery() as bad_ones:
                    for _ in range(3):
                        bad_ones.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            assert wire.live == 1
            over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert not logged.errors


async def test_a_peer_that_stops_reading(autojump_clock: trio.testing.MockClock) -> None:
    """Hypercorn's send cannot be cancelled: here it ends after `SEND_SECONDS`, and so does the call."""
    gone = trio.Event()

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await echo(socket, arrival)
        if arrival.query:
            gone.set()

    async with open_door(answer) as wire:
        stream = await wire.connect(trio.testing.lockstep_stream_pair)
        over = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(good_call, wire, over)
            await stream.send_all(upgrade("/?flood=1"))
            await hear_head(stream)
            with trio.fail_after(SEND_SECONDS + 1):
                await gone.wait()
            over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
