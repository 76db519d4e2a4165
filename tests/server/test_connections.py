"""As many connections as there are file descriptors for, and slow ones cut off: calls under way never notice."""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from sts_trio.core.link import SocketClosed
from sts_trio.web import connections
from sts_trio.web.connections import LogRateLimit, most_connections, raise_file_limit
from sts_trio.web.server import HEADER_SECONDS
from tests.fakes.raw_client import hear, upgrade
from tests.fakes.wire import open_door

if TYPE_CHECKING:
    from sts_trio.core.link import Arrival, CallerSocket
    from tests.conftest import Logged

Clock = trio.testing.MockClock


async def echo(socket: CallerSocket, arrival: Arrival) -> None:
    while not isinstance(message := await socket.receive(), SocketClosed):
        await socket.send(str(message))


async def test_one_too_many_is_told_503_and_those_inside_go_on(autojump_clock: Clock, logged: Logged) -> None:
    async with open_door(echo, most=3) as wire:
        calls = [await wire.call() for _ in range(3)]
        for _ in range(100):
            stream = await wire.connect()
            await stream.send_all(upgrade())
            heard = await hear(stream)
            assert (heard.status, json.loads(heard.body)) == (
                503,
                {"message": "no room for another connection", "reason": "files"},
            )
            assert "\r\nretry-after: 5\r\n" in heard.head.lower() + "\r\n"
            await stream.aclose()
        for call in calls:
            await call.send_message("still here")
            assert await call.get_message() == "still here"
        await calls[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with await wire.call() as another:
            await another.send_message("in")
            assert await another.get_message() == "in"
        assert wire.refusals.counts == {"files": 100}
    (line,) = [line for line in logged.lines if line["level"] == "warning"]
    assert line["event"] == "refused at the door"
    assert (line["reason"], line["open"], line["left_out"]) == ("files", 3, 0)
    assert "ulimit -n" in line["see"]


async def test_who_neither_reads_nor_leaves_holds_no_room_for_long(autojump_clock: Clock) -> None:
    """Only so many are told why; the others are closed at once."""
    async with open_door(echo, most=1) as wire, await wire.call():
        for _ in range(200):
            await wire.connect()
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live <= 1 + connections._MAX_REFUSALS
        await trio.sleep(1)
        assert wire.live == 1


DRIPS = {
    "a request line": b"GET /" + b"a" * 100,
    "headers": b"GET / HTTP/1.1\r\nHost: sts\r\n" + b"X-A: b\r\n" * 20,
    "an upgrade": upgrade(),
    "an empty line again and again": b"\r\n" * 50,
}


async def drip(stream: trio.abc.SendStream, data: bytes) -> None:
    with pytest.raises(trio.BrokenResourceError):  # noqa: PT012 - any of the sends may be the one
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.3)


@pytest.mark.parametrize("name", DRIPS)
async def test_a_request_that_comes_in_drips_is_cut_off(name: str, autojump_clock: Clock) -> None:
    """Its time runs from the connection's begin, not from the last byte."""
    async with open_door(echo) as wire, await wire.call():
        stream = await wire.connect()
        await drip(stream, DRIPS[name])
        assert trio.current_time() <= HEADER_SECONDS + 1
        await trio.testing.wait_all_tasks_blocked()
        assert wire.live == 1


async def test_idle_connections_make_room_again(autojump_clock: Clock) -> None:
    async with open_door(echo, most=4) as wire:
        for _ in range(4):
            await wire.connect()
        await trio.sleep(HEADER_SECONDS + 0.1)
        async with await wire.call() as call:
            await call.send_message("in")
            assert await call.get_message() == "in"


@pytest.mark.parametrize(("limit", "most"), [(16, 4), (1024, 480), (10**9, 32736), (resource.RLIM_INFINITY, 32736)])
def test_there_are_files_enough_for_both_ends_of_every_call(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit))
    assert most_connections() == most


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, [4096]),
        (1024, 10**9, [65536]),
        (1024, -1, [65536]),
        (4096, 4096, []),
        (10**9, 10**9, []),
        (-1, -1, []),
    ],
)
def test_the_limit_of_files_is_raised_as_far_as_it_may(
    soft: int, hard: int, raised: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(resource, "getrlimit", lambda which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: asked.append(limits))
    raise_file_limit()
    assert asked == [(wanted, hard) for wanted in raised]


def test_a_repeated_record_is_let_through_seldom_and_in_one_line() -> None:
    seldom = LogRateLimit()
    records = [logging.makeLogRecord({"created": at, "exc_info": (1, 2, 3)}) for at in (100.0, 100.1, 109.0, 110.0)]
    assert [seldom.filter(record) for record in records] == [True, False, False, True]
    assert records[0].exc_info is None


NO_FILES_LEFT = """
import logging, os, resource, socket, time, trio
from functools import partial
from trio_websocket import open_websocket_url
from sts_trio.web.app import create_app
from sts_trio.web.server import serve_app
from tests.fakes.wire import nothing_against
from tests.fakes.bad_clients import echo

async def main():
    logging.basicConfig(format="LOG %(message)s")
    app = create_app(echo, None, nothing_against, dict)
    async with trio.open_nursery() as nursery:
        serving = partial(serve_app, app, host="127.0.0.1", port=0, ping_seconds=20, dead_seconds=60,
                          shutdown_trigger=trio.sleep_forever)
        (url,) = await nursery.start(serving)
        host, port = url.removeprefix("http://").split(":")
        async with open_websocket_url(f"ws://{host}:{port}/") as call:
            peers = [socket.socket() for _ in range(20)]
            top = max(int(name) for name in os.listdir("/proc/self/fd"))
            files = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (top + 1, files[1]))
            for peer in peers:
                peer.connect((host, int(port)))
            cpu, worst = time.process_time(), 0.0
            for number in range(40):
                began = trio.current_time()
                await call.send_message(str(number))
                assert await call.get_message() == str(number)
                worst = max(worst, trio.current_time() - began)
                await trio.sleep(0.02)
            print("cpu", time.process_time() - cpu, "worst", worst)
            for peer in peers:
                peer.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            async with open_websocket_url(f"ws://{host}:{port}/") as another:
                await another.send_message("again")
                print("heard", await another.get_message())
        nursery.cancel_scope.cancel()

trio.run(main)
"""


def test_without_a_file_left_calls_go_on_and_new_ones_come_in_when_there_are_some_again() -> None:
    """Accepting fails, waits, and tries again: no busy loop, no end, one line in the log."""
    done = subprocess.run(
        [sys.executable, "-c", NO_FILES_LEFT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = done.stdout.split()
    assert figures[-2:] == ["heard", "again"]
    assert float(figures[1]) < 0.4
    logged = [line for line in done.stderr.splitlines() if line.startswith("LOG")]
    assert len(logged) == 1
    assert "EMFILE" in logged[0]
