"""Calls over plain HTTP on real sockets and a real clock: curl, a raw socket that splits samples, and the figures."""

from __future__ import annotations

import json
import random
import socket
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio

from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator
from sts_trio.lab.harness.address import CallFailed
from sts_trio.lab.harness.caller import place_call
from sts_trio.lab.harness.script import Speak, WaitForAgent
from sts_trio.main import run_service
from tests.call.fakes import tone
from tests.call.stage import BOTH, ONE, as_heard, make_settings
from tests.e2e.evi import keeps, open_evi, until
from tests.fakes.http_caller import HttpCaller
from tests.fakes.programs import NEEDS_CURL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sts_trio.lab.harness.script import Step

PATH = "/speech-to-speech-stream"


@pytest.fixture(autouse=True)
def _no_fault_of_ours() -> Iterator[None]:
    """A call that failed inside looks much like one that its caller has left."""
    with structlog.testing.capture_logs() as lines:
        yield
    assert not [line for line in lines if line["log_level"] == "error"]


@asynccontextmanager
async def service(agent_url: str, provider: str) -> AsyncIterator[int]:
    """Serve on a free port of loopback; yield the port."""
    settings = make_settings(provider, "k", welcome_message="", url=agent_url, host="127.0.0.1", port=0)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(run_service, settings))
            yield int(url.rpartition(":")[2])
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_caller(port: int) -> AsyncIterator[HttpCaller]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        caller = HttpCaller(stream)
        await caller.begin(PATH, ("X-UUID", "0b6f1f6e-54f0-4f6b-9a49-3d2a1f0c7e11"))
        yield caller


@BOTH
async def test_two_seconds_each_way_from_a_socket_that_splits_samples(provider: str) -> None:
    """Up bit exact; down within 60 ms of real time; the head of the response within 100 ms."""
    limits = {"head": 0.1, "audio ahead": 0.06, "audio behind": 0.06}
    await keeps(limits, partial(two_seconds_each_way, provider))


async def two_seconds_each_way(provider: str) -> dict[str, float]:
    up, down, dice = random.Random(1).randbytes(32_000), tone(2.0), random.Random(2)
    async with open_evi(provider) as evi, service(evi.url, provider) as port, open_caller(port) as caller:
        await caller.hear_head()
        head = caller.answered_at - caller.began_at
        await until(lambda: evi.chats)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(caller.speak, up, lambda: dice.choice([1, 3, 319, 320, 321, 999])))
            began = await evi.speak(0, 2.0, "r", rate=8000)
            heard = await caller.hear(len(down))
        assert caller.ended == ""  # the request is open: both went at the same time
        await caller.hang_up()
        await caller.hear_out()
        await until(lambda: not evi.chats)
        assert bytes(evi.received) == as_heard(up, provider)
    assert heard == as_heard(down, provider)
    played, ahead, behind = 0.0, 0.0, 0.0
    for at, size in caller.arrivals:
        behind = max(behind, at - began - played)
        played += size / 16_000
        ahead = max(ahead, played - (at - began))
    return {"head": head, "audio ahead": ahead, "audio behind": behind}


@ONE
async def test_a_barge_in_leaves_less_than_60_ms_of_old_audio(provider: str) -> None:
    """Eight seconds are queued; what Core has got by then, and all that comes later, counts."""
    await keeps({"old audio": 0.06}, partial(old_audio, provider))


async def old_audio(provider: str) -> dict[str, float]:
    async with open_evi(provider) as evi, service(evi.url, provider) as port, open_caller(port) as caller:
        await until(lambda: evi.chats)
        old = []
        for turn in range(2):
            began, start = await evi.speak(0, 8.0, f"r{turn}", rate=8000), len(caller.body)
            await caller.hear(4_800)
            event = await evi.interrupt(0)
            with trio.move_on_after(0.3) as quiet:
                await caller.hear(160_000)
            assert quiet.cancelled_caught
            heard_by_then = event - began
            old.append((len(caller.body) - start) / 16_000 - heard_by_then)
    return {"old audio": max(old)}


@asynccontextmanager
async def open_curl(port: int, *options: str) -> AsyncIterator[trio.Process]:
    """Have curl send what it reads, chunk by chunk (`-T -`), and give out what comes at once (`-N`)."""
    command = ["curl", "-sS", "-N", "-X", "POST", "-T", "-", *options, f"http://127.0.0.1:{port}{PATH}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(trio.run_process, command, check=False, **pipes))


@NEEDS_CURL
@ONE
async def test_curl_streams_both_ways(provider: str) -> None:
    up, down, heard = random.Random(3).randbytes(50 * 321 + 1), tone(0.7), bytearray()

    async def listen(curl: trio.Process) -> None:
        assert curl.stdout is not None
        async for data in curl.stdout:
            heard.extend(data)

    async with (
        open_evi(provider) as evi,
        service(evi.url, provider) as port,
        open_curl(port, "-D", "/dev/stderr") as curl,
        trio.open_nursery() as nursery,
    ):
        assert curl.stdin is not None
        assert curl.stderr is not None
        nursery.start_soon(listen, curl)
        await until(lambda: evi.chats)
        await evi.speak(0, 0.7, "r", rate=8000)
        for start in range(0, len(up), 321):
            await curl.stdin.send_all(up[start : start + 321])
            await trio.sleep(0.02)
        assert bytes(heard) == as_heard(down, provider)
        assert curl.poll() is None  # the request is still open
        await curl.stdin.aclose()
        assert await curl.wait() == 0
        head = b"".join([data async for data in curl.stderr]).decode()
        await until(lambda: not evi.chats)
        assert bytes(evi.received) == as_heard(up[:-1], provider)  # the last byte is half a sample
    assert "HTTP/1.1 200" in head
    assert "content-type: application/octet-stream" in head


@NEEDS_CURL
@ONE
async def test_curl_hears_why_there_is_no_call(provider: str, nursery: trio.Nursery) -> None:
    """A key that is refused is final; what may pass is tried again, and by then the head of the response is out."""
    emulator = Emulator(EmulatorOptions(service=provider, api_keys=frozenset({"another"})))
    url = await nursery.start(serve_emulator, emulator)
    async with service(url, provider) as port, open_curl(port, "-w", "\n%{http_code}") as curl:
        assert curl.stdin is not None
        assert curl.stdout is not None
        await curl.stdin.send_all(bytes(3200))
        await trio.sleep(0.2)
        await curl.stdin.aclose()
        *body, status = b"".join([data async for data in curl.stdout]).decode().split("\n")
    nursery.cancel_scope.cancel()
    assert status == "500"
    assert "API_KEY" in json.loads("".join(body))["message"]


@ONE
async def test_a_reset_ends_the_call(provider: str) -> None:
    async with open_evi(provider) as evi, service(evi.url, provider) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        caller = HttpCaller(stream)
        await caller.begin("/")
        await until(lambda: evi.chats)
        await evi.speak(0, 8.0, "r", rate=8000)
        await caller.hear(3200)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await trio.aclose_forcefully(stream)  # with SO_LINGER 0 this is a reset
        began = trio.current_time()
        await until(lambda: not evi.chats)
        assert trio.current_time() - began < 1


@ONE
async def test_our_caller_places_a_call_over_http(provider: str) -> None:
    async with open_evi(provider) as evi, service(evi.url, provider) as port:

        async def greet() -> None:
            await until(lambda: evi.chats)
            await evi.speak(0, 0.5, "r")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(greet)
            script: list[Step] = [WaitForAgent(0.2), Speak(tone(0.4))]
            report = await place_call(f"http://localhost:{port}{PATH}?from=1", script)
        await until(lambda: not evi.chats)
        assert as_heard(tone(0.4), provider) in bytes(evi.received)
    assert (report.ended, report.unmet, report.recording.underruns) == ("script", (), 0)
    with pytest.raises(CallFailed, match=r"cannot connect: Connection refused$"):
        await place_call(f"http://127.0.0.1:{port}/", [])
