"""A real process whose log cannot be written, or is not read: its calls do not notice, and it says so."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from tests.e2e.evi import environment_of, open_core, open_evi, until
from tests.e2e.process import KEY
from tests.e2e.service import hears

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio_websocket import WebSocketConnection

    from tests.e2e.evi import Evi

FULL = Path("/dev/full")
SINKS = ["gone", "full", "unread", "ascii"]


@asynccontextmanager
async def logging_to(
    descriptor: int, directory: Path, agent_url: str, **environment: str
) -> AsyncIterator[tuple[trio.Process, str]]:
    """Run `sts-trio serve` with this file for its stdout and stderr; yields the process, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {"PATH": os.environ["PATH"], "PORT": str(port), "HOST": "127.0.0.1", "LOG_LEVEL": "debug"}
    start = partial(
        trio.run_process,
        [sys.executable, "-m", "sts_trio", "serve"],
        env=env | environment_of("humeai", agent_url, KEY) | environment,
        cwd=directory,
        stdout=descriptor,
        stderr=subprocess.STDOUT,
        check=False,
    )
    async with trio.open_nursery() as nursery:
        process = await nursery.start(start)
        while True:
            try:
                async with await trio.open_tcp_stream("127.0.0.1", port):
                    break
            except OSError:
                assert process.poll() is None
                await trio.sleep(0.05)
        yield process, f"ws://127.0.0.1:{port}/"
        if process.returncode is None:
            process.kill()


async def get(url: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url.replace("ws://", "http://") + path)


async def hold(evi: Evi, url: str, calls: int, between: trio.Event, ready: trio.Event) -> None:
    """Hold calls; each must still be heard once `between` has happened."""
    heard = 0

    async def one(number: int, placed: trio.Event) -> None:
        nonlocal heard
        async with open_core(url) as core:
            await core.send_message(json.dumps({"type": "init", "uuid": f"grüße-{number}"}))
            placed.set()
            await between.wait()
            while json.loads(await core.get_message())["type"] != "audio":
                pass
            heard += 1

    async with trio.open_nursery() as nursery:
        for number in range(calls):
            placed = trio.Event()
            nursery.start_soon(one, number, placed)
            await placed.wait()
            await until(lambda number=number: len(evi.chats) == number + 1)  # type: ignore[misc]
        ready.set()
        await between.wait()
        for chat in range(calls):
            await evi.speak(chat, 0.1, "r")
        with trio.fail_after(20):
            while heard < calls:
                await trio.sleep(0.01)


PRINTING = '''
import sys
import warnings


def look_up(number: str) -> str:
    """Looks an order up.

    Args:
        number: Its number.
    """
    for _ in range(100):
        print("looking up grüße", number, "." * 100)
    print("on its way", file=sys.stderr, flush=True)
    warnings.warn(f"an old way {number}")
    return "shipped"
'''


async def one_more_works(evi: Evi, url: str) -> None:
    """A call with a tool that prints, as operators' tools do."""
    await until(lambda: not evi.chats)
    core: WebSocketConnection
    async with open_core(url) as core:
        await core.send_message('{"type":"init","uuid":"after"}')
        await until(lambda: evi.chats)
        assert await hears(evi, core)
        before = len(evi.answers)
        await evi.ask(0, "t1", "look_up", '{"number":"B-17"}')
        await until(lambda: len(evi.answers) > before, 5)
        assert evi.answers[-1] == ("t1", "shipped", False)
        assert await hears(evi, core)


@pytest.mark.parametrize("sink", SINKS)
async def test_calls_do_not_notice(sink: str, tmp_path: Path) -> None:
    await calls_do_not_notice(sink, tmp_path, 2, 0.5)


@pytest.mark.long
@pytest.mark.parametrize("sink", SINKS)
async def test_twenty_calls_do_not_notice_for_a_minute(sink: str, tmp_path: Path) -> None:
    await calls_do_not_notice(sink, tmp_path, 20, 60.0)


async def calls_do_not_notice(sink: str, directory: Path, calls: int, seconds: float) -> None:
    """Hold calls over the moment at which the log fails, and place more while it does."""
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETPIPE_SZ, 4096)  # 15 lines
    environment = {"LANG": "C", "PYTHONIOENCODING": "ascii"} if sink == "ascii" else {}
    target = os.open(FULL, os.O_WRONLY) if sink == "full" else write
    (directory / "tools").mkdir()
    (directory / "tools" / "orders.py").write_text(PRINTING)
    async with open_evi() as evi, logging_to(target, directory, evi.url, **environment) as (process, url):
        os.close(write)
        if sink == "full":
            os.close(target)
        failed, ready = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            if sink == "ascii":
                nursery.start_soon(read_ascii, read)
            nursery.start_soon(hold, evi, url, calls, failed, ready)
            await ready.wait()
            if sink == "gone":
                os.close(read)
            for _ in range(10):
                await get(url, "health")
            await trio.sleep(seconds)
            failed.set()
            await until(lambda: not evi.chats)
            await one_more_works(evi, url)
            answer = await get(url, "health")
            assert answer.status_code == 200
            assert answer.json()["status"] == "ok"
            lost = answer.json().get("log_lines_dropped", 0)
            assert (lost > 0) is (sink in ("gone", "full"))
            text = (await get(url, "metrics")).text
            counted = float(text.partition("\nsts_log_lines_dropped_total ")[2].partition("\n")[0])
            assert lost <= counted
            assert (counted > 0) is (lost > 0)
            if sink == "unread":
                await read_late(read)
            process.send_signal(signal.SIGHUP)
            with trio.fail_after(8):
                assert await process.wait() == 0
            nursery.cancel_scope.cancel()
    if sink != "gone":
        os.close(read)


async def read_ascii(descriptor: int) -> None:
    """Read for ever, and see that each line is JSON in ASCII."""
    os.set_blocking(descriptor, False)
    data = b""
    while True:
        await trio.lowlevel.wait_readable(descriptor)
        if not (part := os.read(descriptor, 2**16)):
            return
        *lines, data = (data + part).split(b"\n")
        assert all(line.isascii() and json.loads(line) for line in lines)


async def read_late(descriptor: int) -> None:
    """A reader that had stopped reads on: nothing is lost."""
    data, late = b"", b'"call": "after"'
    os.set_blocking(descriptor, False)
    with trio.fail_after(5):
        while late not in data:
            await trio.lowlevel.wait_readable(descriptor)
            data += os.read(descriptor, 2**16)
    lines = [json.loads(line) for line in data.splitlines() if line.endswith(b"}")]
    assert sum(line["event"] == "call ended" for line in lines) > 0
    assert not any("lost" in line["event"] for line in lines)


async def test_the_last_lines_are_written_and_sighup_drains(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        async with open_evi() as evi, logging_to(log.fileno(), tmp_path, evi.url) as (process, url):
            async with open_core(url) as core:
                await core.send_message('{"type":"init","uuid":"u"}')
                await until(lambda: evi.chats)
                process.send_signal(signal.SIGHUP)
                await until(lambda: "draining" in (tmp_path / "log").read_text())
                assert await hears(evi, core)
            with trio.fail_after(5):
                assert await process.wait() == 0
    found = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["signal"] for line in found if line["event"] == "told to stop"] == ["SIGHUP"]
    assert found[-1]["event"] == "stopped"


@pytest.mark.parametrize("after", [0.02, 0.1, 0.2, 0.3, 0.5])
async def test_ctrl_c_in_the_first_half_second_is_quiet(after: float, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PORT": "0", "HOST": "127.0.0.1"} | environment_of("humeai", "ws://x.test", KEY)
    command = [sys.executable, "-m", "sts_trio", "serve"]
    with (tmp_path / "log").open("wb") as log:
        process = await trio.lowlevel.open_process(command, env=env, cwd=tmp_path, stdout=log, stderr=log)
        await trio.sleep(after)
        process.send_signal(signal.SIGINT)
        with trio.fail_after(10):
            await process.wait()
    assert process.returncode in (0, 1, 130, -signal.SIGINT)  # 1: in the beginning of Python itself
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said or "sts_trio" not in said  # Python's own beginning is not ours
