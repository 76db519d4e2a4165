"""A deploy with calls running, behind a real HAProxy: two instances, each restarted in turn, and not a call is lost.

One of them has two workers.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError

from tests.e2e.evi import open_core, open_evi, until
from tests.tools.http_server import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLS = int(os.environ.get("ROLLING_CALLS", "50"))
CALL_SECONDS = 4.0
CHUNK = bytes(1600)  # 100 ms: what the test itself must move stays small

# What an operator is told to write.
SCALE = (Path(__file__).parents[2] / "docs/operations/scale.md").read_text(encoding="utf-8")
HAPROXY = SCALE.partition("```haproxy\n")[2].partition("```")[0]


def configuration(port: int, a: int, b: int) -> str:
    """Return it with our addresses; the balancer asks more often, since calls are short here."""
    text = "global\n    maxconn 2000\n" + HAPROXY
    for theirs, ours in (
        ("bind :6039", f"bind 127.0.0.1:{port}"),
        ("server a sts-a:6039", f"server a 127.0.0.1:{a}"),
        ("server b sts-b:6039", f"server b 127.0.0.1:{b}"),
        ("inter 1s", "inter 100ms"),
    ):
        assert text.count(theirs) == 1
        text = text.replace(theirs, ours)
    return text


@dataclass
class Tally:
    """What became of the calls."""

    whole: int = 0
    lost: list[str] = field(default_factory=list)
    sent: int = 0


@asynccontextmanager
async def instance(
    directory: Path, name: str, port: int, evi_url: str, workers: int = 1
) -> AsyncIterator[trio.Process]:
    log = directory / f"{name}.log"
    with log.open("wb") as out:
        environment = {"PATH": os.environ["PATH"], "HUMEAI_API_KEY": "k", "HUMEAI_WS_URL": evi_url, "PORT": str(port)}
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "sts_trio", "serve"],
            env=environment | {"HOST": "127.0.0.1", "HUMEAI_WELCOME_MESSAGE": "", "WORKERS": str(workers)},
            cwd=directory,
            stdout=out,
            stderr=subprocess.STDOUT,
            check=False,
        )
        async with trio.open_nursery() as nursery:
            process = await nursery.start(start)
            await until(lambda: "ready for calls" in log.read_text())
            yield process
            if process.returncode is None:
                process.kill()


@asynccontextmanager
async def balancer(directory: Path, a: int, b: int) -> AsyncIterator[str]:
    port = await free_port()
    (directory / "haproxy.cfg").write_text(configuration(port, a, b))
    haproxy = ["haproxy", "-db", "-f", str(directory / "haproxy.cfg")]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, haproxy, check=False, capture_stderr=True))
        await answering(port)
        yield f"ws://127.0.0.1:{port}"
        process.terminate()


async def answering(port: int) -> None:
    with trio.fail_after(10):
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port):
                    return
            except OSError:
                await trio.sleep(0.05)


async def place(url: str, tally: Tally, seconds: float) -> None:
    """One call: speaks in real time, and hangs up by itself at the end; anything else is a loss."""
    try:
        async with open_core(url) as core:
            await core.send_message(json.dumps({"type": "init", "uuid": "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"}))
            frame = json.dumps({"type": "audio", "audio": base64.b64encode(CHUNK).decode()})
            began = trio.current_time()
            for number in range(round(seconds * 10)):
                await core.send_message(frame)
                tally.sent += len(CHUNK)
                await trio.sleep_until(began + (number + 1) * 0.1)
            await trio.sleep(0.2)
            assert core.closed is None
    except (ConnectionClosed, HandshakeError, OSError, trio.BrokenResourceError, AssertionError) as exc:
        tally.lost.append(repr(exc))
    except BaseExceptionGroup as group:
        tally.lost.append(repr(group.exceptions))
    else:
        tally.whole += 1


async def keep_calling(url: str, tally: Tally, until_told: trio.Event) -> None:
    """As many calls at once as the bar asks for, a new one for each that ends."""

    async def line(delay: float) -> None:
        await trio.sleep(delay)
        while not until_told.is_set():
            await place(url, tally, CALL_SECONDS)

    async with trio.open_nursery() as nursery:
        for number in range(CALLS):
            nursery.start_soon(line, number * CALL_SECONDS / CALLS)


@pytest.mark.slow
async def test_two_instances_are_restarted_in_turn_and_no_call_is_lost(tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        assert os.environ.get("CI") != "true", ".ci/run installs haproxy"
        pytest.skip("haproxy is not installed (Debian package haproxy)")
    tally, enough = Tally(), trio.Event()
    a, b = await free_port(), await free_port()
    async with (
        open_evi() as evi,
        instance(tmp_path, "a1", a, evi.url) as first,
        instance(tmp_path, "b1", b, evi.url, workers=2) as second,
        balancer(tmp_path, a, b) as url,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(keep_calling, url, tally, enough)
        await trio.sleep(CALL_SECONDS)  # all lines are busy
        first.send_signal(signal.SIGTERM)
        with trio.fail_after(CALL_SECONDS + 10):
            assert await first.wait() == 0
        async with instance(tmp_path, "a2", a, evi.url):
            await trio.sleep(1)
            second.send_signal(signal.SIGTERM)
            with trio.fail_after(CALL_SECONDS + 10):
                assert await second.wait() == 0
            enough.set()
            with trio.fail_after(CALL_SECONDS + 5):
                while nursery.child_tasks:
                    await trio.sleep(0.1)
    print(f"{tally.whole} calls, {CALLS} at once, through two restarts; lost: {len(tally.lost)}")
    assert tally.lost == []
    assert tally.whole >= 2 * CALLS
    assert len(evi.received) == tally.sent, "audio was lost"
    for name in ("a1", "b1"):
        log = (tmp_path / f"{name}.log").read_text()
        assert re.search(r'"event": "draining[^}]*"calls": [1-9]', log) or re.search(r'"calls": [1-9].*draining', log)
        assert '"cause": "drained"' not in log
