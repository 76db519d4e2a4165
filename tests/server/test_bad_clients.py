"""Every kind of bad client, beside a good call that never notices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.web.call_socket import LINGER_SECONDS
from sts_trio.web.guards import SEND_SECONDS
from tests.fakes.bad_clients import KINDS, echo
from tests.fakes.raw_client import hear, hear_head, upgrade
from tests.fakes.wire import Wire, open_door

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.core.link import Arrival, CallerSocket
    from tests.conftest import Logged

DEAD = 10.0


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
