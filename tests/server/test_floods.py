"""A peer that sends as much as it can, of what costs it nothing: the other calls still get their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.core.link import SocketClosed
from tests.fakes.rude import TEXT, frame, hear_head, upgrade
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from sts_trio.core.arrival import Arrival
    from sts_trio.core.link import CallerSocket

PONG, CONTINUATION = 10, 0

FLOODS = {
    "pongs": frame(PONG) * 8000,
    "empty fragments": frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 8000 + frame(CONTINUATION),
    "crumbs": frame(TEXT, fin=False) + frame(CONTINUATION, b"x", fin=False) * 8000 + frame(CONTINUATION),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_others_get_their_turn_within_a_flood(name: str, autojump_clock: trio.testing.MockClock) -> None:
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
