"""Time in which we did not run ourselves is not counted against a peer, whose answer we have only not read yet."""

from __future__ import annotations

from math import inf

import pytest
import trio
import trio.testing

from sts_trio.providers.dial import Endpoint
from sts_trio.providers.socket import ProviderSocket
from tests.fakes.bad_clients import echo, silence_after_handshake
from tests.fakes.raw_client import TEXT, frame, hear, upgrade
from tests.fakes.wire import open_door


@pytest.mark.parametrize("away", [11.0, 60.0, 3600.0])
async def test_a_caller_who_answers_pings_outlives_our_pause(
    away: float, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_door(echo, ping_seconds=4, dead_seconds=10) as wire:
        caller = await wire.call("/")
        await caller.send_message("1")
        assert await caller.get_message() == "1"
        autojump_clock.jump(away)
        await trio.sleep(30)
        await caller.send_message("2")
        assert await caller.get_message() == "2"


async def test_a_caller_who_is_gone_is_dropped_in_time_and_soon_after_a_pause(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for away, within in ((0.0, 10.01), (60.0, 1.01)):
        async with open_door(echo, ping_seconds=4, dead_seconds=10) as wire:
            stream = await wire.connect()
            await silence_after_handshake(stream)
            await trio.testing.wait_all_tasks_blocked()
            autojump_clock.jump(away)
            began = trio.current_time()
            await hear(stream)
            assert trio.current_time() - began <= within


async def test_a_caller_who_falls_mute_in_a_call_is_dropped_too(autojump_clock: trio.testing.MockClock) -> None:
    """The call reads for itself by then, and must be woken."""
    async with open_door(echo, ping_seconds=4, dead_seconds=10) as wire:
        stream = await wire.connect()
        await stream.send_all(upgrade() + frame(TEXT, b"1"))
        await trio.sleep(1)
        await stream.send_all(frame(TEXT, b"2"))
        await hear(stream)
        assert trio.current_time() == pytest.approx(11.0)
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 0


@pytest.mark.parametrize(("away", "lives"), [(60.0, True), (0.0, False)])
async def test_a_ping_whose_answer_came_while_we_were_away_is_asked_again(
    away: float, lives: bool, autojump_clock: trio.testing.MockClock
) -> None:
    pings = 0

    class Connection:
        async def ping(self) -> None:
            nonlocal pings
            pings += 1
            if pings == 1:
                autojump_clock.jump(away)
                await trio.sleep(inf)

    stream, _ = trio.testing.memory_stream_pair()
    socket = ProviderSocket(Connection(), None, Endpoint("x", 1, "/", tls=False))  # type: ignore[arg-type]
    with trio.move_on_after(200) as waiting:
        await socket.keep_alive(stream, 20)
    assert waiting.cancelled_caught is lives
    assert (pings > 5) is lives
