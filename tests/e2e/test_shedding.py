"""A process that is kept from the CPU: new calls are refused until it keeps time again, the one that is in goes on."""

from __future__ import annotations

import base64
import json
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from tests.call.fakes import tone
from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.process import lines, running
from tests.fakes.raw_client import upgrade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio_websocket import WebSocketConnection

# Stopped for far longer than the limit, and let go for less than the time to the next measurement: each one is late.
STOPPED_SECONDS, RUNS_SECONDS = 0.25, 0.03
FRAMES = 40


async def answer(url: str, request: bytes) -> str:
    """Send a request as it is; return all of the answer."""
    host, _, port = url.removeprefix("ws://").partition("/")[0].rpartition(":")
    with trio.fail_after(5):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(request)
            return b"".join([part async for part in stream]).decode()


async def starve(process: trio.Process, core: WebSocketConnection, spoken: bytes, noticed: Callable[[], bool]) -> None:
    """Let the process have the CPU for a moment now and then, until it has noticed; the caller speaks meanwhile."""
    frames = [spoken[start : start + 320] for start in range(0, len(spoken), 320)]
    with trio.fail_after(20):
        while frames or not noticed():
            process.send_signal(signal.SIGSTOP)
            for frame in frames[:10]:
                await core.send_message(json.dumps({"type": "audio", "audio": base64.b64encode(frame).decode()}))
            del frames[:10]
            await trio.sleep(STOPPED_SECONDS)
            process.send_signal(signal.SIGCONT)
            await trio.sleep(RUNS_SECONDS)


@pytest.mark.slow
async def test_a_process_without_cpu_refuses_new_calls_and_keeps_those_it_has(tmp_path: Path) -> None:
    ready = b"GET /ready HTTP/1.1\r\nHost: sts\r\nConnection: close\r\n\r\n"
    async with (
        open_evi() as evi,
        running(tmp_path, evi.url, SHED_LAG_MS="80", HUMEAI_WELCOME_MESSAGE="") as (process, url, log),
        open_core(url) as core,
    ):
        await core.send_message('{"type":"init","uuid":"u-1"}')
        await until(lambda: evi.chats)
        assert " 200 " in await answer(url, ready)
        spoken = tone(FRAMES * 0.02)
        try:
            await starve(process, core, spoken, lambda: "overloaded" in log.read_text())
        finally:
            process.send_signal(signal.SIGCONT)
        assert " 503 " in await answer(url, ready)
        refused = await answer(url, upgrade())
        assert " 503 " in refused
        assert "retry-after" in refused
        assert '"reason": "overloaded"' in refused
        await until(lambda: len(evi.received) == len(spoken))
        assert bytes(evi.received) == spoken
        await evi.speak(0, 0.2, "r")
        with trio.fail_after(5):
            while json.loads(await core.get_message())["type"] != "audio":
                pass

        await until(lambda: "no longer overloaded" in log.read_text())
        assert " 200 " in await answer(url, ready)
        async with open_core(url) as second:
            await second.send_message('{"type":"init","uuid":"u-2"}')
            await until(lambda: len(evi.chats) == 2)
        assert [line["call"] for line in lines(log) if line["event"] == "call ended"] in ([], ["u-2"])
