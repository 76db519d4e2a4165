"""Our own pause (SIGSTOP, a suspended machine) is not the peer's silence: no call whose peer lives is dropped."""

from __future__ import annotations

import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio
from trio_websocket import ConnectionClosed

from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.process import running
from tests.e2e.service import hears

if TYPE_CHECKING:
    from pathlib import Path


async def test_calls_outlive_a_pause_that_is_longer_than_the_time_after_which_a_peer_is_dead(tmp_path: Path) -> None:
    await calls_outlive_a_pause(tmp_path, 3, 4.0, "2")


@pytest.mark.long
async def test_ten_calls_outlive_a_minute(tmp_path: Path) -> None:
    await calls_outlive_a_pause(tmp_path, 10, 60.0, "30")


async def calls_outlive_a_pause(directory: Path, calls: int, seconds: float, dead: str) -> None:
    """Nobody says a word meanwhile: only pings, and their answers, show that a peer lives."""
    own = {"CORE_DEAD_SECONDS": dead, "PROVIDER_DEAD_SECONDS": dead}
    async with open_evi() as evi, running(directory, evi.url, **own) as (process, url, log), AsyncExitStack() as stack:
        cores = []
        for number in range(calls):
            core = await stack.enter_async_context(open_core(url))
            await core.send_message(f'{{"type":"init","uuid":"u-{number}"}}')
            cores.append(core)
            await until(lambda: len(evi.chats) == len(cores))
        process.send_signal(signal.SIGSTOP)
        await trio.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        await trio.sleep(3)
        assert "call ended" not in log.read_text()
        for core in cores:
            assert await hears(evi, core)
        await cores[0].aclose()  # those that do leave are let go
        with pytest.raises(ConnectionClosed):
            await cores[0].get_message()
        await until(lambda: len(evi.chats) == calls - 1)
