"""Thousands of calls with random faults of the provider: nothing grows, and every end is explained."""

from __future__ import annotations

import base64
import json
import os
import random
import re
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio_websocket import ConnectionClosed

from sts_trio.lab.emulator import (
    CloseWith,
    Emulator,
    EmulatorOptions,
    Refuse,
    Reset,
    Script,
    SendError,
    SendRaw,
    serve_emulator,
)
from tests.call.fakes import tone
from tests.e2e.evi import open_core, until
from tests.e2e.process import running

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

CALLS = int(os.environ.get("SOAK_CALLS", "2000"))
AT_ONCE = 40
WARM_CALLS = max(CALLS // 10, 50)  # pools, caches and the allocator's arenas are filled by then
SEED = 7


def trouble(number: int) -> Script:
    """One connection in three has some."""
    dice = random.Random(SEED * 1_000_003 + number)
    after = dice.uniform(0.0, 1.5)
    match dice.randrange(21):
        case 0 | 1:
            return Script(steps=(Reset(after),))
        case 2:
            return Script(steps=(CloseWith(after, dice.choice([1011, 1012, 1013])),))
        case 3:
            return Script(steps=(CloseWith(after, dice.choice([1000, 1008, 4000])),))
        case 4:
            return Script(steps=(SendError(after, dice.choice(["I0100", "E0300", "E0101", "W0101"])),))
        case 5:
            return Script(steps=(SendRaw(after, '{"type":'),))
        case 6:
            return Script(handshake=Refuse(dice.choice([401, 429, 503])))
        case _:
            return Script()


# What an operator reads when a call ended early, of the faults above.
EXPLAINED = re.compile(
    r"HTTP (401|429|503)|code (1008|4000|101\d)|close 1000|broke|E0300|I0100|E0101|no JSON object|refused the last"
)


@dataclass
class Soak:
    """What has become of the calls, and how the process was when they were over."""

    done: int = 0
    whole: int = 0
    explained: int = 0
    unexplained: list[str] = field(default_factory=list)
    rss: list[tuple[int, float]] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)


async def one_call(url: str, dice: random.Random, soak: Soak) -> None:
    told: list[str] = []
    try:
        async with open_core(url) as core, trio.open_nursery() as nursery:
            nursery.start_soon(listen, core, told)
            await core.send_message(json.dumps({"type": "init", "uuid": f"soak-{dice.random()}"}))
            speech = tone(dice.uniform(0.1, 0.8)) + bytes(16_000)
            for start in range(0, len(speech), 1600):
                await core.send_message(
                    json.dumps({"type": "audio", "audio": base64.b64encode(speech[start : start + 1600]).decode()})
                )
                if dice.random() < 0.05:
                    await core.send_message(json.dumps({"type": "dtmf_digit", "digit": dice.choice("123#")}))
                await trio.sleep(0.1)
            soak.whole += core.closed is None
            ended = core.closed
            nursery.cancel_scope.cancel()
    except* (ConnectionClosed, OSError, trio.BrokenResourceError) as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        ended = getattr(first, "reason", None)
        # A good-bye of the agent is no error: the close says it all.
        said_good_bye = ended is not None and (ended.code, ended.reason) == (1000, "agent_ended")
        soak.explained += said_good_bye
        if not told and not said_good_bye:
            soak.unexplained.append(f"{first!r} without a word")
    if ended is not None and told:
        if EXPLAINED.search(told[-1]):
            soak.explained += 1
        else:
            soak.unexplained.append(told[-1])
    soak.done += 1


async def listen(core: WebSocketConnection, told: list[str]) -> None:
    try:
        while True:
            message = json.loads(await core.get_message())
            if message["type"] == "error":
                told.append(message["message"])
    except ConnectionClosed:
        return


def open_files(process: trio.Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def look(process: trio.Process, soak: Soak) -> None:
    status = Path(f"/proc/{process.pid}/status").read_text()
    resident = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert resident is not None
    soak.rss.append((soak.done, int(resident[1]) / 1024))
    soak.fds.append(open_files(process))


@pytest.mark.slow
async def test_a_soak_of_calls_and_faults_leaves_nothing_behind(tmp_path: Path) -> None:
    soak, dice = Soak(), random.Random(SEED)
    emulator = Emulator(EmulatorOptions(script=trouble, seed=SEED))
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        evi_url = await nursery.start(serve_emulator, emulator)
        async with running(tmp_path, evi_url, RESUME_SECONDS="5") as (process, url, log):
            baseline = open_files(process)

            async def line() -> None:
                while soak.done + AT_ONCE <= CALLS:
                    await one_call(url, dice, soak)
                    if soak.done % max(CALLS // 40, 1) == 0:
                        look(process, soak)

            async with trio.open_nursery() as lines:
                for _ in range(AT_ONCE):
                    lines.start_soon(line)
                    await trio.sleep(0.02)
            await until(lambda: not emulator.live, 15)
            await until(lambda: open_files(process) <= baseline, 15)
            look(process, soak)
            process.terminate()
            with trio.fail_after(15):
                assert await process.wait() == 0
            text = log.read_text()
        nursery.cancel_scope.cancel()
    warm = [(done, size) for done, size in soak.rss if done >= WARM_CALLS]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope * 1000
    print(
        f"{soak.done} calls in {time.monotonic() - began:.0f} s, {AT_ONCE} at once: {soak.whole} whole, "
        f"{soak.explained} ended and explained, {len(soak.unexplained)} unexplained; {emulator.connections} chats; "
        f"RSS {warm[0][1]:.1f} to {warm[-1][1]:.1f} MB, {slope:+.2f} MB a thousand calls; "
        f"fds {baseline} before, {soak.fds[-1]} after"
    )
    assert soak.unexplained == []
    assert "internal error" not in text
    assert "Traceback" not in text
    assert soak.fds[-1] <= baseline
    assert soak.whole > soak.done / 2
    assert warm[-1][1] - warm[0][1] < 6, "memory grows"
