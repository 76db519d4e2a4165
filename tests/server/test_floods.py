"""A peer that sends as much as it can, of what costs it nothing: the other calls still get their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.core.link import SocketClosed
from sts_trio.web.call_socket import UNITS_PER_SECOND, UNITS_SAVED
from tests.fakes.raw_client import TEXT, frame, hear, hear_head, upgrade
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from sts_trio.core.link import Arrival, CallerSocket, CallerStream

PING, PONG, CONTINUATION = 9, 10, 0


async def no_call(socket: CallerSocket, arrival: Arrival) -> None:
    raise AssertionError("no call was expected")


FLOODS = {
    "pongs": frame(PONG) * 8000,
    "empty fragments": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 8000 + frame(CONTINUATION),
    "crumbs": frame(TEXT, fin=False) + frame(CONTINUATION, b"x", fin=False) * 8000 + frame(CONTINUATION),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_others_get_their_turn_within_a_flood(
    name: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sts_trio.web.call_socket.UNITS_SAVED", 100_000)
    over = trio.Event()

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        while not isinstance(message := await socket.receive(), SocketClosed):
            if message == "over":
                over.set()

    async with open_door(answer) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        await hear_head(stream)
        await stream.send_all(FLOODS[name] + frame(TEXT, b"over"))
        turns = 0
        while not over.is_set():
            await trio.lowlevel.checkpoint()
            turns += 1
        assert turns > 4000


TOO_MUCH = {
    "messages": frame(TEXT, b"x") * 8000,
    "pings": frame(PING) * 8000,
    "large messages": frame(TEXT, b"x" * 1_000_000) * 8,
} | FLOODS


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_a_flood_ends_its_own_connection_with_1008(name: str, autojump_clock: trio.testing.MockClock) -> None:
    ends: list[SocketClosed] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        while not isinstance(message := await socket.receive(), SocketClosed):
            pass
        ends.append(message)

    async with open_door(answer) as wire, await wire.call() as good:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        head = await hear_head(stream)
        await stream.send_all(TOO_MUCH[name])
        assert (await hear(stream, head)).close == (1008, "too many messages")
        assert ends == [SocketClosed(1008, "too many messages")]
        await good.send_message("still here")
        await trio.testing.wait_all_tasks_blocked()
        assert good.closed is None


async def test_what_gathered_in_a_stall_of_a_minute_may_come_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """And then goes on in real time."""
    message, heard = "x" * 460, 0

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        nonlocal heard
        while not isinstance(await socket.receive(), SocketClosed):
            heard += 1

    async with open_door(answer) as wire, await wire.call() as good:
        for _ in range(60 * 50):
            await good.send_message(message)
        for _ in range(60 * 50):
            await trio.sleep(0.02)
            await good.send_message(message)
        await trio.testing.wait_all_tasks_blocked()
        assert (heard, good.closed) == (6000, None)
    assert UNITS_SAVED / UNITS_PER_SECOND == 10


HEALTH = b"GET /health HTTP/1.1\r\nHost: sts\r\n\r\n"


@pytest.mark.parametrize("target", ["/", "/nowhere"])
async def test_a_flood_of_chunks_ends_its_own_connection(target: str, autojump_clock: trio.testing.MockClock) -> None:
    heard = bytearray()
    ends: list[SocketClosed] = []

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        while not isinstance(message := await stream.receive(), SocketClosed):
            heard.extend(message)
        ends.append(message)

    async with open_door(no_call, stream=answer) as wire:
        stream = await wire.connect()
        await stream.send_all(f"POST {target} HTTP/1.1\r\nHost: sts\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        await stream.send_all(b"1\r\nx\r\n" * 20_000)
        await trio.sleep(3)
        assert wire.live == 0
        assert len(heard) <= UNITS_SAVED
        assert ends == ([SocketClosed(1006)] if target == "/" else [])


async def test_a_flood_of_requests_ends_its_own_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with open_door(no_call) as wire:
        stream = await wire.connect()
        await stream.send_all(HEALTH * 5000)
        heard = await hear(stream)
        answers = heard.body.count(b"HTTP/1.1 200") + 1
        assert answers == pytest.approx(UNITS_SAVED / 10, abs=10)
        assert b"HTTP/1.1 429" in heard.body


async def test_a_caller_over_http_may_catch_up_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    heard = bytearray()

    async def answer(stream: CallerStream, arrival: Arrival) -> None:
        while not isinstance(message := await stream.receive(), SocketClosed):
            heard.extend(message)

    async with open_door(no_call, stream=answer) as wire:
        caller = await wire.stream()
        for _ in range(60 * 50):
            await caller.say(bytes(320))
        for _ in range(60 * 50):
            await trio.sleep(0.02)
            await caller.say(bytes(320))
        await trio.sleep(0.1)
        assert (len(heard), wire.live) == (2 * 60 * 16_000, 1)


async def test_who_asks_again_and_again_but_slowly_is_answered(autojump_clock: trio.testing.MockClock) -> None:
    async with open_door(no_call) as wire:
        stream = await wire.connect()
        for _ in range(700):  # what a connection has saved up pays for 500
            await stream.send_all(HEALTH)
            assert "200" in await hear_head(stream)
            await stream.receive_some()
            await trio.sleep(0.03)


@pytest.mark.parametrize(
    ("version", "lines", "status"),
    [
        ("1.1", ["Content-Length: 5", "Transfer-Encoding: chunked"], 400),
        ("1.1", ["Transfer-Encoding: chunked", "content-length: 5"], 400),
        ("1.0", ["Transfer-Encoding: chunked"], 400),
        ("1.1", ["Transfer-Encoding: chunked"], 404),
        ("1.1", ["Content-Length: 5"], 404),
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_body_whose_length_is_told_twice_closes_the_connection(
    version: str, lines: list[str], status: int, method: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_door(no_call) as wire:
        stream = await wire.connect()
        head = [f"{method} /nowhere HTTP/{version}", "Host: sts", *lines, "", ""]
        await stream.send_all("\r\n".join(head).encode() + b"0\r\n\r\n" + HEALTH)
        heard = await hear(stream)
        assert heard.status == status
        assert (b"HTTP/1.1 200" in heard.body) is False or status == 404
