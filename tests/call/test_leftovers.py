"""A call that is over leaves nothing behind: not an object of any type stays for each call, however it ended."""

from __future__ import annotations

import contextlib
import gc
import socket
import urllib.parse
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import CloseWith, HalfOpen, Mute, Refuse, Reset, Script, SendError
from tests.call.fakes import tone
from tests.call.stage import ALL, PROVIDERS, matrix, open_stage

if TYPE_CHECKING:
    from tests.call.stage import Stage

SCRIPTS = (
    Script(),
    Script(steps=(Reset(0.5),)),
    Script(steps=(CloseWith(0.5, 1000),)),
    Script(steps=(SendError(0.5, "I0100", "internal"),)),
    Script(steps=(HalfOpen(0.5),)),
)
REFUSED = Script(handshake=Refuse(401))
SPEECH = tone(0.4) + bytes(8000)
ROUND = 2 * (len(SCRIPTS) + 1)
# Trio forgets what it no longer waits for (up to a thousand scopes) when its time comes; the longest is that of a call.
_ALL_DEADLINES = 20_000


def any_script(connection: int) -> Script:
    return (*SCRIPTS, REFUSED)[connection % (len(SCRIPTS) + 1)]


async def call(stage: Stage, number: int) -> None:
    """Over a WebSocket, or over plain HTTP: the caller speaks and keys, and hangs up, or vanishes."""
    if number % 4 == 3:
        stream = await stage.wire.stream()
        with trio.move_on_after(3):
            await stream.speak(SPEECH)
            await stream.hear_out()
        await trio.aclose_forcefully(stream.socket)
        return
    caller = await stage.call(f"/?from={number}", uuid=f"call-{number}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.hear_out)
        with trio.move_on_after(3), contextlib.suppress(ConnectionClosed):
            await caller.speak(SPEECH)
            await caller.say(type="dtmf_digit", digit="1")
            await trio.sleep(2)
        if number % 2:
            await caller.socket.aclose()
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(caller.socket._stream)


async def census(stage: Stage, *, collect: bool = True) -> Counter[str]:
    """How many objects of each type there are, when all has settled."""
    await trio.sleep(_ALL_DEADLINES)
    assert (stage.registry.live, stage.wire.live, stage.emulator.live) == (0, 0, ())
    stage.emulator._ended.clear()  # it keeps some for tests to look at
    stage.emulator._groups.clear()  # and what can be resumed
    urllib.parse.clear_cache()  # type: ignore[attr-defined]  # it is there, and documented nowhere
    if collect:
        gc.collect()
    return Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.get_objects())


@pytest.mark.parametrize("provider", [*PROVIDERS[:2], *map(matrix, PROVIDERS[2:])])
async def test_nothing_of_a_call_outlives_it(provider: str, autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(provider=provider, script=any_script, breaker_failures=0) as stage:
        left = []
        for _ in range(3):
            for number in range(ROUND):
                await call(stage, number)
            left.append(await census(stage))
    # What is made once, in the first round or by chance in another, is no leak: what is left behind grows in every one.
    grown = (left[1] - left[0]) & (left[2] - left[1])
    assert grown.pop("collections.Counter") == 1  # the census before
    assert not grown


@ALL
@pytest.mark.parametrize("mute", [False, True])
async def test_a_call_that_waited_in_vain_is_gone_without_the_garbage_collector(
    provider: str, mute: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """A limit that has passed throws an exception away, a request that failed has a chain of them: all lead to it."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        prompt: dict[str, Any] = {"url_instructions": f"http://127.0.0.1:{nobody.getsockname()[1]}/"}
        if not mute:
            nobody.close()
        async with open_stage(provider=provider, script=lambda _: Script(handshake=Mute()), **prompt) as stage:
            before = await census(stage)  # what tests before have left is none of ours
            gc.disable()
            try:
                caller = await stage.call()
                await caller.hear_out()
                await trio.aclose_forcefully(caller.socket._stream)
                left = await census(stage, collect=False) - before
            finally:
                gc.enable()
    assert not [name for name in left if name.endswith((".Call", ".Playout", ".ProviderSocket"))]


@ALL
async def test_a_call_is_gone_without_the_garbage_collector(
    provider: str, autojump_clock: trio.testing.MockClock
) -> None:
    """It may hold ten minutes of audio; a ring of references would keep that until the collector comes by."""
    async with open_stage(provider=provider, script=any_script, breaker_failures=0) as stage:
        await call(stage, 0)
        before = await census(stage)
        gc.disable()
        try:
            for number in range(2 * (len(SCRIPTS) + 1)):
                await call(stage, number)
            more = await census(stage, collect=False) - before
        finally:
            gc.enable()
    assert "sts_trio.call.call.Call" not in more
    assert "sts_trio.call.playout.Playout" not in more
    assert "sts_trio.providers.socket.ProviderSocket" not in more
