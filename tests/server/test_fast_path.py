"""The fast path beside a WebSocket library: order, bounds, turns, and ends."""

from __future__ import annotations

import socket as stdlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypercorn.protocol.events import Data

from sts_trio.core.link import SocketClosed
from sts_trio.web.call_socket import GuardedWSStream
from sts_trio.websocket.fast_path import FastPath
from sts_trio.websocket.frames import BINARY, PING, TEXT, Flood, FrameParser, TokenBucket, frame
from tests.fakes import raw_client
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercorn.protocol.events import Event

    from sts_trio.core.link import Arrival, CallerSocket

FRAGMENT = frame(TEXT & 0x7F, b"be")
LAST = frame(0x80, b"gun")


def fast_path_on(stream: trio.abc.Stream, *, queued: int = 10, patience: float = float("inf")) -> FastPath:
    fast_path = FastPath(stream, FrameParser(masked=False, most=1000), queued=queued, patience=patience)
    fast_path.open()
    return fast_path


@pytest.fixture
async def sockets() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    """Two ends of a TCP connection on loopback, with little room in the kernel."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    listener.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_RCVBUF, 4096)
    near = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    near.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_SNDBUF, 4096)
    far = await listener.accept()
    await listener.aclose()
    yield near, far
    await trio.aclose_forcefully(near)
    await trio.aclose_forcefully(far)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


async def test_before_it_is_open_the_library_has_everything() -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = FastPath(near, FrameParser(masked=False, most=1000), queued=10)
    await far.send_all(frame(TEXT, b"hello"))
    assert await fast_path.receive_some() == frame(TEXT, b"hello")
    assert not fast_path.is_open


async def test_messages_pass_and_pings_are_the_librarys(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near)
    await far.send_all(frame(TEXT, b"one") + frame(PING, b"?") + frame(BINARY, b"two"))
    assert await fast_path.receive_some() == frame(PING, b"?")
    assert [await fast_path.receive(), await fast_path.receive()] == ["one", b"two"]
    assert fast_path.is_open


async def test_a_fragment_hands_the_stream_to_the_library_for_good(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near)
    await far.send_all(frame(TEXT, b"one") + FRAGMENT)
    assert await fast_path.receive_some() == FRAGMENT
    await far.send_all(LAST + frame(TEXT, b"two"))
    assert await fast_path.receive_some() == LAST + frame(TEXT, b"two")
    assert [await fast_path.receive(), await fast_path.receive(), fast_path.is_open] == ["one", None, False]


async def test_a_receiver_that_waits_hears_of_the_end(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast_path.receive_some)

        @nursery.start_soon
        async def hear() -> None:
            assert await fast_path.receive() is None

        await trio.testing.wait_all_tasks_blocked()
        await far.aclose()


async def test_who_does_not_receive_is_not_read_for(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near, queued=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast_path.receive_some)
        for number in range(10):
            await far.send_all(frame(TEXT, b"%d" % number))
            await trio.sleep(4)
        assert len(fast_path._messages) == 3
        heard_at = fast_path.heard_at
        await trio.sleep(100)
        assert fast_path.heard_at == heard_at + 100, "it would be taken for the peer's silence"
        assert [await fast_path.receive() for _ in range(10)] == [str(number) for number in range(10)]
        nursery.cancel_scope.cancel()


async def test_a_fast_path_that_is_closed_while_somebody_reads_waits_for_that_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two must not read at once; what the last read brings is the library's, too."""
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near)
    for_library: list[bytes] = []

    async def library() -> None:
        for_library.append(await fast_path.receive_some())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast_path.receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(library)
        await trio.testing.wait_all_tasks_blocked()
        fast_path.close()
        await trio.testing.wait_all_tasks_blocked()
        await far.send_all(frame(0x88, b""))
    assert for_library == [frame(0x88, b"")]


async def test_a_receiver_that_is_cancelled_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = fast_path_on(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fast_path.receive_some)
        with trio.move_on_after(1):
            await fast_path.receive()
        await far.send_all(frame(TEXT, b"one"))
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await fast_path.receive()
        assert await fast_path.receive() == "one"
        nursery.cancel_scope.cancel()


async def test_more_than_the_limit_allows_is_a_flood() -> None:
    near, far = trio.testing.memory_stream_pair()
    fast_path = FastPath(near, FrameParser(masked=False, most=1000), queued=10)
    cost = 3 + 3 * 504 / 1024
    bucket = TokenBucket(0, 2 * cost - 0.01, 0.0)
    fast_path.open(limit=bucket)
    await far.send_all(frame(BINARY, bytes(500)) * 3)
    assert [await fast_path.receive() for _ in range(3)] == [bytes(500)] * 3
    await far.send_all(frame(BINARY, bytes(500)) * 3)
    assert await fast_path.receive() is None
    with pytest.raises(Flood):
        await fast_path.receive_some()
    assert not fast_path.is_open


async def test_a_message_waits_for_its_turn_behind_what_the_library_writes(
    sockets: tuple[trio.SocketStream, trio.SocketStream], nursery: trio.Nursery
) -> None:
    near, far = sockets
    fast_path = fast_path_on(near)
    long = bytes(3_000_000)  # more than the kernel takes
    nursery.start_soon(fast_path.send_all, long)
    await trio.testing.wait_all_tasks_blocked()
    for number in range(20):
        nursery.start_soon(fast_path.send, BINARY, b"%d" % number)
        await trio.testing.wait_all_tasks_blocked()

    async def end() -> None:
        await fast_path.send(BINARY, b"last")
        await fast_path.aclose()

    nursery.start_soon(end)
    expected = long + b"".join(frame(BINARY, b"%d" % number) for number in range(20)) + frame(BINARY, b"last")
    with trio.fail_after(5):
        assert await read_all(far) == expected


async def test_a_message_that_the_kernel_takes_in_parts_stays_whole(
    sockets: tuple[trio.SocketStream, trio.SocketStream], nursery: trio.Nursery
) -> None:
    near, far = sockets
    fast_path = fast_path_on(near)
    messages = [bytes([number]) * 700_000 for number in range(4)]

    async def send(message: bytes) -> None:
        await fast_path.send(BINARY, message)

    async def end() -> None:
        async with trio.open_nursery() as senders:
            for message in messages:
                senders.start_soon(send, message)
        await fast_path.aclose()

    nursery.start_soon(end)
    with trio.fail_after(5):
        got = await read_all(far)
    parser = FrameParser(masked=False, most=1_000_000)
    heard, others = parser.feed(got)
    assert (sorted(heard, key=str), others) == (messages, b"")


async def test_a_peer_that_does_not_read_loses_the_connection_and_no_cancellation_cuts_a_frame(
    sockets: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    near, _ = sockets
    fast_path = fast_path_on(near, patience=0.2)
    with trio.fail_after(2), trio.CancelScope() as scope:
        scope.cancel()
        with pytest.raises(trio.BrokenResourceError, match=r"has read nothing for 0.2 s"):
            await fast_path.send(BINARY, bytes(9_000_000))
    with pytest.raises(trio.ClosedResourceError):
        await fast_path.send(BINARY, b"more")
    assert not fast_path.is_open


async def test_a_closed_connections_number_is_not_used_again(
    sockets: tuple[trio.SocketStream, trio.SocketStream],
) -> None:
    """The kernel gives the number of a closed socket to the next one: another call's."""
    near, _ = sockets
    fast_path = fast_path_on(near)
    number = near.socket.fileno()
    await near.aclose()
    one, other = stdlib.socketpair()
    with one, other:
        assert number in (one.fileno(), other.fileno()), "this test needs the number to be given again"
        with pytest.raises(trio.ClosedResourceError):
            await fast_path.send(BINARY, b"for nobody else")
        one.setblocking(False)
        with pytest.raises(BlockingIOError):
            one.recv(100)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.recv(100)


@pytest.mark.parametrize("how", ["aclose", "reset"])
async def test_a_connection_that_ends_ends_the_fast_path(
    sockets: tuple[trio.SocketStream, trio.SocketStream], how: str
) -> None:
    near, far = sockets
    fast_path = fast_path_on(near)
    if how == "reset":
        far.socket.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await far.aclose()
    with trio.fail_after(2):
        assert await fast_path.receive() is None
        with suppress(trio.BrokenResourceError):  # the kernel tells of a reset once
            assert await fast_path.receive_some() == b""


@pytest.mark.parametrize("at_once", [False, True], ids=["after the 101", "with the request"])
async def test_a_caller_who_speaks_at_once_takes_the_fast_path_unless_bytes_are_with_the_library_already(
    at_once: bool, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_way: list[object] = []
    handle = GuardedWSStream.handle

    async def watched(self: GuardedWSStream, event: Event) -> None:
        if isinstance(event, Data):
            long_way.append(event)
        await handle(self, event)

    write = FastPath.send_all

    async def slow_to_go_on(self: FastPath, data: bytes) -> None:
        await write(self, data)
        await trio.sleep(0.1)  # as on a busy machine: the caller's answer is there before

    monkeypatch.setattr(GuardedWSStream, "handle", watched)
    monkeypatch.setattr(FastPath, "send_all", slow_to_go_on)
    heard: list[object] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        heard.extend([await socket.receive() for _ in range(3)])

    words = b"".join(raw_client.frame(raw_client.TEXT, word) for word in (b"one", b"two", b"three"))
    async with open_door(answer) as wire:
        stream = await wire.connect()
        if at_once:
            await stream.send_all(raw_client.upgrade() + words[:5])
            await trio.sleep(1)
            await stream.send_all(words[5:])
        else:
            await stream.send_all(raw_client.upgrade())
            await raw_client.hear_head(stream)
            await stream.send_all(words)
        await trio.sleep(1)
    assert heard == ["one", "two", "three"]
    assert bool(long_way) is at_once


@pytest.mark.parametrize("says_bye", [False, True])
@pytest.mark.parametrize("leg", ["websocket", "http"])
async def test_a_caller_who_cannot_be_written_to_has_left_though_he_can_be_heard(
    leg: str, says_bye: bool, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And why he has left is still heard, if he has said it."""
    ends: list[SocketClosed] = []
    fails = False
    send_all = trio.testing.MemorySendStream.send_all

    async def send(self: trio.testing.MemorySendStream, data: bytes) -> None:
        if fails and not data.startswith(FROM_CALLER):
            raise trio.BrokenResourceError
        await send_all(self, data)

    monkeypatch.setattr(trio.testing.MemorySendStream, "send_all", send)

    async def answer(caller: Any, arrival: Arrival) -> None:
        async def listen() -> None:
            while not isinstance(message := await caller.receive(), SocketClosed):
                pass
            ends.append(message)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            while True:
                await caller.send("text" if leg == "websocket" else bytes(320))
                await trio.sleep(0.02)

    async with open_door(answer, stream=answer) as wire:
        stream = await wire.connect()
        begin = b"POST / HTTP/1.1\r\nHost: sts\r\nTransfer-Encoding: chunked\r\n\r\n"
        await stream.send_all(raw_client.upgrade() if leg == "websocket" else begin)
        await trio.sleep(0.1)
        fails = True
        bye = raw_client.frame(raw_client.CLOSE, b"\x03\xe8bye") if leg == "websocket" else b"0\r\n\r\n"
        if says_bye:
            await stream.send_all(bye)
        await trio.sleep(1)
        assert wire.live == 0
    assert [end.code for end in ends] == [1000 if says_bye else 1006]


FROM_CALLER = (b"\x88", b"0\r\n")
