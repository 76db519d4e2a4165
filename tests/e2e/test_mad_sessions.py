"""Sessions with the provider that have gone mad, beside good calls, in processes: nobody else hears of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from tests.e2e.process import running
from tests.e2e.service import FRAME, INIT, service
from tests.fakes.mad_realtime import KINDS
from tests.tools.http_server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GOOD = 2
SECONDS = float(os.environ.get("MAD_SECONDS", "2"))
# The bars, on a machine of its own. Beside other work a hole may be the machine's: `MAD_SLACK` multiplies the times.
SLACK = float(os.environ.get("MAD_SLACK", "3"))
HOLE, HEALTH, MEGABYTES = 0.150 * SLACK, 0.5 * SLACK, 60


@dataclass
class Seen:
    """The longest times in seconds: without audio for Core, without audio for the provider, of `GET /health`."""

    down: float = 0.0
    up: float = 0.0
    health: float = 0.0


@asynccontextmanager
async def provider() -> AsyncIterator[tuple[trio.Process, int]]:
    port = await free_port()
    command = [sys.executable, "-m", "tests.fakes.mad_realtime", str(port)]
    async with trio.open_nursery() as nursery:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process: trio.Process = await nursery.start(partial(trio.run_process, command, check=False, **pipes))
        assert process.stdout is not None
        assert await process.stdout.receive_some() == b"ready\n"
        yield process, port
        process.kill()


async def good_call(url: str, seen: Seen) -> None:
    async with open_websocket_url(url) as socket, trio.open_nursery() as nursery:
        await socket.send_message(INIT)

        async def speak() -> None:
            while True:
                await socket.send_message(FRAME)
                await trio.sleep(0.02)

        nursery.start_soon(speak)
        heard = 0.0
        while True:
            message = json.loads(await socket.get_message())
            if message["type"] != "audio":
                continue
            now, lasts = trio.current_time(), len(base64.b64decode(message["audio"])) / 16000
            seen.down = max(seen.down, now - heard - lasts if heard else 0.0)
            heard = now


async def mad_call(url: str, kind: str) -> None:
    while True:
        with suppress(ConnectionClosed, HandshakeError, OSError):
            async with open_websocket_url(f"{url}&voice_id={kind.replace(' ', '-')}") as socket:
                await socket.send_message(INIT)
                while True:
                    await socket.get_message()
        await trio.sleep(0.1)


async def ask_health(port: int, seen: Seen) -> None:
    while True:
        began = trio.current_time()
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while await stream.receive_some():
                pass
        seen.health = max(seen.health, trio.current_time() - began)
        await trio.sleep(0.1)


def megabytes(pid: int, what: str) -> float:
    with open(f"/proc/{pid}/status") as status:  # noqa: PTH123 - no file of a directory
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(what))


async def measure(tmp_path: Path, kinds: list[str], seconds: float) -> tuple[Seen, float]:
    """Good calls alone, then beside mad ones; return what was seen beside them, and how much memory that took."""
    seen = Seen()
    async with (
        provider() as (agents, port),
        running(tmp_path, f"ws://127.0.0.1:{port}/v1", "openai", ALLOW_CALL_OVERRIDES="true", SHED_LAG_MS="0") as (
            process,
            url,
            log,
        ),
        trio.open_nursery() as callers,
    ):
        for _ in range(GOOD):
            callers.start_soon(good_call, url, seen)
        await trio.sleep(2)
        before = megabytes(process.pid, "VmRSS")
        assert agents.stdin is not None
        assert agents.stdout is not None
        for kind in {*kinds}:
            await agents.stdin.send_all(f"{kind}\n".encode())
            await agents.stdout.receive_some()
        seen.down = 0.0
        callers.start_soon(ask_health, int(url.split(":")[2].split("/")[0]), seen)
        for kind in kinds:
            callers.start_soon(mad_call, url, kind)
        await trio.sleep(seconds)
        await agents.stdin.send_all(b"\n")
        seen.up = float(await agents.stdout.receive_some())
        more = megabytes(process.pid, "VmHWM") - before
        assert process.returncode is None
        callers.cancel_scope.cancel()
    shown = f"down {seen.down * 1000:.0f} ms, up {seen.up * 1000:.0f} ms, /health {seen.health * 1000:.0f} ms"
    print(f"{', '.join(kinds)}: {shown}, {more:.0f} MB more")
    assert "Traceback" not in log.read_text()
    return seen, more


def check(seen: Seen, more: float) -> None:
    assert seen.down <= HOLE
    assert seen.up <= HOLE
    assert seen.health <= HEALTH
    assert more <= MEGABYTES


class Passes(trio.abc.Instrument):
    """How much processor time the longest pass of the event loop took: what others wait for, on any machine."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = inf  # it is put to work in the middle of a pass

    def after_io_wait(self, timeout: float) -> None:
        self._began = time.thread_time()

    def before_io_wait(self, timeout: float) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)


@pytest.mark.parametrize(
    "kinds",
    [
        ("empty fragments", "tiny fragments", "empty pongs", "pings"),
        ("empty texts", "small oddities", "usage", "NaN below the limit"),
        ("output", "output below the limit", "audio with more in it", "large audio"),
        ("large audio",) * 4,
        ("ids", "too large audio") * 2,
    ],
    ids=", ".join,
)
async def test_four_mad_sessions_hold_up_no_turn_of_the_loop(kinds: tuple[str, ...]) -> None:
    passes = Passes()
    async with (
        provider() as (_, port),
        service(f"ws://127.0.0.1:{port}/v1", "openai", allow_call_overrides=True, shed_lag_ms=0) as url,
        trio.open_nursery() as callers,
    ):
        callers.start_soon(good_call, url, Seen())
        for kind in kinds:
            callers.start_soon(mad_call, f"{url}/?", kind)
        await trio.sleep(0.5)
        trio.lowlevel.add_instrument(passes)
        await trio.sleep(SECONDS)
        trio.lowlevel.remove_instrument(passes)
        callers.cancel_scope.cancel()
    print(f"{', '.join(kinds)}: {passes.longest * 1000:.0f} ms")
    assert passes.longest <= HOLE / SLACK


@pytest.mark.long
@pytest.mark.parametrize("sessions", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
async def test_mad_sessions_make_no_hole_in_another_call(kind: str, sessions: int, tmp_path: Path) -> None:
    check(*await measure(tmp_path, [kind] * sessions, 2 * SECONDS))
