"""A call on the door: `take_call` and `AsgiSocket`, in memory, under the real server classes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from sts_trio.core.link import SocketClosed
from sts_trio.web.call_socket import CLOSE_SECONDS, AsgiSocket
from tests.fakes.raw_client import BINARY, CLOSE, TEXT, frame, hear, hear_head, upgrade
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from sts_trio.core.link import Arrival, CallerSocket
    from tests.conftest import Logged

Clock = trio.testing.MockClock


def close_code(end: ConnectionClosed) -> int | None:
    """The code of the close frame, if one came."""
    return end.reason.code if end.reason else None


async def test_messages_pass_as_they_are(autojump_clock: Clock) -> None:
    """Q8: quart-trio makes None of an empty binary message."""
    got: list[str | bytes | SocketClosed] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await socket.send("hello")
        while not isinstance(message := await socket.receive(), SocketClosed):
            got.append(message)
        got.append(message)

    async with open_door(answer) as wire:
        stream = await wire.connect()
        sent = [
            frame(TEXT, b""),
            frame(BINARY, b""),
            frame(TEXT, "é".encode()),
            frame(BINARY, b"\x00"),
            frame(CLOSE),
        ]
        await stream.send_all(upgrade() + b"".join(sent))
        await hear(stream)
    assert got == ["", b"", "é", b"\x00", SocketClosed(1005)]


async def test_the_end_is_told_again_and_again(autojump_clock: Clock) -> None:
    """Two tasks may wait for it."""
    got: list[str | bytes | SocketClosed] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        async def wait() -> None:
            got.append(await socket.receive())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)

    async with open_door(answer) as wire:
        ws = await wire.call()
        await ws.aclose(4001, "bye")
        await trio.testing.wait_all_tasks_blocked()
    assert got == [SocketClosed(4001, "bye")] * 2


async def test_a_send_loop_to_nobody_lets_others_run(autojump_clock: Clock) -> None:
    """Q6: quart's send to a peer that has left passes no checkpoint, and hangs the whole process."""
    turns = 0

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        nonlocal turns
        assert isinstance(await socket.receive(), SocketClosed)
        other = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(set_event, other)
            while not other.is_set() and turns < 1000:
                turns += 1
                await socket.send("x")

    async with open_door(answer) as wire:
        await (await wire.call()).aclose()
        await trio.testing.wait_all_tasks_blocked()
    assert 0 < turns < 10


async def set_event(event: trio.Event) -> None:
    event.set()


async def test_an_answer_that_returns_closes_with_1000(autojump_clock: Clock) -> None:
    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await socket.send("bye")

    async with open_door(answer) as wire:
        ws = await wire.call()
        assert await ws.get_message() == "bye"
        with pytest.raises(ConnectionClosed) as closed:
            await ws.get_message()
        assert close_code(closed.value) == 1000


@pytest.mark.parametrize("beside_a_cancelled", [False, True])
async def test_an_error_in_an_answer_closes_with_1011(
    beside_a_cancelled: bool, autojump_clock: Clock, logged: Logged
) -> None:
    """Q4, Q5: quart-trio closes with 1000, and loses an error that comes with a `Cancelled`."""

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        if not beside_a_cancelled:
            raise KeyError("bug")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise KeyError("bug")

    async with open_door(answer) as wire:
        good = await wire.call()
        for ws in (good, await wire.call()):
            with pytest.raises(ConnectionClosed) as closed:
                await ws.get_message()
            reason = closed.value.reason
            assert reason is not None
            assert (reason.code, reason.reason) == (1011, "internal_error")
    assert logged.errors == ["a call failed"] * 2
    assert "bug" in logged.text


async def test_a_cancelled_answer_says_good_bye(autojump_clock: Clock) -> None:
    """H9: without this the peer would get a bare end of stream when the server stops."""

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await trio.sleep_forever()

    async with open_door(answer) as wire:
        ws = await wire.call()
        wire.servers.cancel_scope.cancel()
        with pytest.raises(ConnectionClosed) as closed:
            await ws.get_message()
        assert close_code(closed.value) == 1001


async def test_close_waits_for_the_peer_and_reads_on(autojump_clock: Clock) -> None:
    """H3: what the peer still sends is read, else its answer would never be seen."""
    took: list[float] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await socket.receive()
        start = trio.current_time()
        await socket.close(4002, "enough")
        await socket.close(1000, "again")
        took.append(trio.current_time() - start)
        assert await socket.receive() == SocketClosed(4002, "")

    async with open_door(answer) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        head = await hear_head(stream)
        await stream.send_all(frame(TEXT, b"x") * 60)
        await trio.sleep(0.3)
        await stream.send_all(frame(TEXT, b"x") * 60 + frame(CLOSE, b"\x0f\xa2"))
        assert (await hear(stream, head)).close == (4002, "enough")
        await trio.testing.wait_all_tasks_blocked()
    assert took == [pytest.approx(0.3)]


async def test_close_gives_up_on_a_mute_peer(autojump_clock: Clock, logged: Logged) -> None:
    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await socket.close(1000, "")
        await socket.send("too late")

    async with open_door(answer) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        heard = await hear(stream)
        assert trio.current_time() == pytest.approx(CLOSE_SECONDS)
        assert heard.close == (1000, "")
        assert len(heard.events) == 1
    assert "a call failed" not in logged.text


@pytest.mark.parametrize(("reason", "kept"), [("x" * 200, "x" * 123), ("é" * 100, "é" * 61), ("", "")])
async def test_a_close_reason_is_cut_to_whole_characters(reason: str, kept: str, autojump_clock: Clock) -> None:
    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        await socket.close(1011, reason)

    async with open_door(answer) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        assert (await hear(stream)).close == (1011, kept)


async def test_a_refused_call_gets_503_before_the_upgrade(autojump_clock: Clock) -> None:
    async with open_door(never, refuse=lambda: "all lines are busy") as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade())
        heard = await hear(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0
    assert heard.status == 503
    assert "\r\nretry-after: 5\r\n" in heard.head.lower()
    assert json.loads(heard.body) == {"message": "all lines are busy", "reason": "full"}


async def never(socket: CallerSocket, arrival: Arrival) -> None:
    raise AssertionError("this call was refused")


async def test_a_message_costs_few_scheduler_steps(autojump_clock: Clock) -> None:
    """Q11: quart-trio needs three tasks and two channels for a message in; here one task waits on one channel."""
    living: list[int] = []

    async def answer(socket: CallerSocket, arrival: Arrival) -> None:
        assert isinstance(socket, AsgiSocket)
        living.append(trio.lowlevel.current_statistics().tasks_living)
        await socket.receive()

    async with open_door(answer, ping_seconds=20) as wire:
        before = trio.lowlevel.current_statistics().tasks_living
        stream = await wire.connect()
        await stream.send_all(upgrade())
        await hear_head(stream)
        await trio.testing.wait_all_tasks_blocked()
        assert living[0] - before <= 3  # the reader, the app, the pings
