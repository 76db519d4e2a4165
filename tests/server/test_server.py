"""`serve_app` on loopback sockets: foreign clients, start and stop."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from trio_websocket import open_websocket_url
from websockets.exceptions import ConnectionClosed as ForeignClosed
from websockets.sync.client import connect

from sts_trio.core.link import SocketClosed
from sts_trio.web.app import create_app
from sts_trio.web.call_socket import CLOSE_SECONDS
from sts_trio.web.connections import listen, notice_dead_peers
from sts_trio.web.server import GRACEFUL_SECONDS, make_config, serve_app
from tests.fakes.http_caller import HttpCaller
from tests.fakes.programs import NEEDS_CURL
from tests.fakes.raw_client import BINARY, TEXT, frame, hear, hear_head, upgrade
from tests.fakes.wire import nothing_against

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sts_trio.core.link import Arrival, CallerSocket, CallerStream
    from sts_trio.web.call_socket import Answer
    from sts_trio.web.call_stream import AnswerStream
    from tests.conftest import Logged

HOW_TO_CALL = (
    "set STS_URL to ws:// and this host and port, or, for a call over plain HTTP (POST), to http:// and the same."
)


async def echo(socket_: CallerSocket, arrival: Arrival) -> None:
    while not isinstance(message := await socket_.receive(), SocketClosed):
        await socket_.send(message if isinstance(message, str) else f"{len(message)} bytes")


async def echo_stream(stream: CallerStream, arrival: Arrival) -> None:
    while not isinstance(chunk := await stream.receive(), SocketClosed):
        await stream.send(chunk)


@asynccontextmanager
async def serving(
    answer: Answer = echo, stream: AnswerStream = echo_stream, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[str, trio.Event]]:
    """Serve on a free port; yield the address and what stops the server."""
    stop = trio.Event()

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_app(
            create_app(answer, stream, nothing_against, dict),
            host=host,
            port=0,
            ping_seconds=20,
            dead_seconds=60,
            shutdown_trigger=stop.wait,
            task_status=task_status,
        )

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            [url] = await nursery.start(serve)
            yield url.removeprefix("http://"), stop
            stop.set()


async def open_raw(address: str) -> trio.SocketStream:
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host, int(port))


async def test_a_foreign_client_holds_a_call() -> None:
    """The `websockets` library, with its usual offer of compression."""

    def client(address: str) -> None:
        with connect(f"ws://{address}/speech-to-speech-stream/?uuid=1") as ws:
            assert ws.protocol.extensions == []
            for number in range(100):
                ws.send(f"{number} " + "x" * 455)
                assert ws.recv(timeout=5) == f"{number} " + "x" * 455
            ws.send(b"\x00" * 320)
            assert ws.recv(timeout=5) == "320 bytes"
            ws.send(["in ", "two"])
            assert ws.recv(timeout=5) == "in two"
            ws.close(4000, "done")

    async with serving() as (address, _):
        await trio.to_thread.run_sync(client, address)


async def test_a_foreign_client_is_told_that_its_message_is_too_big() -> None:
    """Its close frame arrives although twelve megabytes were still on their way to us."""

    def client(address: str) -> int:
        with connect(f"ws://{address}/", compression=None) as ws:
            with suppress(ForeignClosed):
                ws.send("x" * 12_000_000)
            with pytest.raises(ForeignClosed) as closed:
                ws.recv(timeout=5)
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code

    async with serving() as (address, _), open_websocket_url(f"ws://{address}/") as good:
        assert await trio.to_thread.run_sync(client, address) == 1009
        await good.send_message("still here")
        assert await good.get_message() == "still here"


@pytest.mark.parametrize(
    ("arguments", "status", "body"),
    [
        (["/health"], "200", {"status": "ok"}),
        (
            ["/speech-to-speech-stream/"],
            "426",
            {"message": f"This is for telephone calls: {HOW_TO_CALL}"},
        ),
        (["-X", "PUT", "-d", "@-", "/"], "405", {"message": f"Not this way: {HOW_TO_CALL}"}),
        (["-X", "DELETE", "/ready"], "405", {"message": "Not this way: this path only answers GET."}),
    ],
)
@NEEDS_CURL
async def test_curl(arguments: list[str], status: str, body: dict[str, str]) -> None:
    *options, path = arguments
    async with serving() as (address, _):
        command = ["curl", "-sS", "-m", "5", "-w", "\n%{http_code}", *options, f"http://{address}{path}"]
        done = await trio.run_process(command, stdin=b"x" * 100_000, capture_stdout=True)
    *text, code = done.stdout.decode().splitlines()
    assert code == status
    assert json.loads("".join(text)) == body


@pytest.mark.parametrize(
    "rude",
    [
        upgrade() + b"x",
        upgrade() + frame(TEXT, b"\xff"),
        upgrade() + frame(BINARY, b"x" * 3_000_000),
        upgrade(extra=["Content-Length: 1"]) + b"x",
        upgrade()[:60],
        b"\x00" * 5000,
    ],
    ids=["letter", "utf-8", "big", "body", "half", "zeros"],
)
async def test_raw_bytes_and_a_reset_beside_a_good_call(rude: bytes) -> None:
    async with serving() as (address, _), open_websocket_url(f"ws://{address}/") as good:
        for _ in range(5):
            stream = await open_raw(address)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            with suppress(trio.BrokenResourceError):
                await stream.send_all(rude)
            await trio.aclose_forcefully(stream)  # with SO_LINGER 0 this is a reset
            await good.send_message("x")
            assert await good.get_message() == "x"


async def test_the_kernel_looks_after_silent_peers() -> None:
    """What the listener is told, its connections inherit."""
    with listen("127.0.0.1", 0) as listener:
        notice_dead_peers(listener, 30)
        with socket.create_connection(listener.getsockname()[:2], timeout=2):
            accepted, _ = await trio.socket.from_stdlib_socket(listener).accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
                idle, probe, probes, unheard = (accepted.getsockopt(socket.IPPROTO_TCP, name) for name in options)
    assert (idle + probe * probes, unheard) == (30, 30_000)


@pytest.mark.parametrize("seconds", [0.1, 1, 5, 29, 3600])
async def test_any_time_for_dead_peers_can_be_set(seconds: float) -> None:
    with listen("127.0.0.1", 0) as listener:
        notice_dead_peers(listener, seconds)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) >= 1


async def test_no_reset_destroys_the_tail_of_a_response() -> None:
    """It still lies with our kernel when the call is over: the caller is busy sending, and its window is small."""
    said = b"x" * 16_000

    async def session_config(stream: CallerStream, arrival: Arrival) -> None:
        await stream.receive()
        await stream.send(said)

    async with serving(stream=session_config) as (address, _):
        host, _, port = address.rpartition(":")
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect((host, int(port)))
        plain.setblocking(False)
        async with trio.SocketStream(trio.socket.from_stdlib_socket(plain)) as stream:
            caller = HttpCaller(stream)
            await caller.begin("/")
            with trio.move_on_after(0.1):
                while True:
                    await caller.say(b"y" * 4096)
                    await trio.lowlevel.checkpoint()
            await caller.hear_out()
    assert (caller.ended, bytes(caller.body)) == ("end", said)


async def test_a_request_that_is_too_long_hears_so() -> None:
    """Although the most of it was still on its way."""
    async with serving() as (address, _), await open_raw(address) as caller:
        await caller.send_all(b"POST /?from=" + b"9" * 1_000_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 400 <= (await hear(caller)).status < 500


async def test_ipv6() -> None:
    async with serving(host="::1") as (address, _):
        assert address.startswith("[::1]:")
        async with open_websocket_url(f"ws://{address}/") as ws:
            await ws.send_message("x")
            assert await ws.get_message() == "x"


def test_all_addresses_of_ipv6_are_those_of_ipv4_too() -> None:
    with listen("::", 0) as listener:
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=2).close()


async def test_a_port_in_use_is_one_plain_error() -> None:
    """H10: hypercorn's comes out as nested groups."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"in use.*{port}") as raised:
            await serve_app(
                create_app(echo, echo_stream, nothing_against, dict),
                host="127.0.0.1",
                port=port,
                ping_seconds=20,
                dead_seconds=60,
                shutdown_trigger=trio.sleep_forever,
            )
    assert raised.type is OSError


async def test_shutdown_ends_the_calls_that_stay(patient_clock: trio.testing.MockClock) -> None:
    """H9: nobody tells them; after `GRACEFUL_SECONDS` they are cancelled, and still say good-bye."""

    async def stay(socket_: CallerSocket, arrival: Arrival) -> None:
        await trio.sleep_forever()

    async with serving(stay) as (address, stop), await open_raw(address) as stream:
        await stream.send_all(upgrade())
        head = await hear_head(stream)
        start = trio.current_time()
        stop.set()
        assert (await hear(stream, head)).close == (1001, "the server is stopping")
    assert GRACEFUL_SECONDS <= trio.current_time() - start < GRACEFUL_SECONDS + CLOSE_SECONDS + 0.5


async def test_shutdown_refuses_new_connections_and_is_quick_without_calls() -> None:
    async with serving() as (address, stop):
        stop.set()
    with pytest.raises(OSError, match=r"."):
        await open_raw(address)


async def test_no_log_line_has_the_query(logged: Logged) -> None:
    """H11: hypercorn's access log quotes it; it is off, and nothing else says where it listens."""
    async with serving() as (address, _):
        async with open_websocket_url(f"ws://{address}/?from=15551234567") as ws:
            await ws.send_message("x")
            await ws.get_message()
        async with await open_raw(address) as stream:
            await stream.send_all(b"GET /health?from=15551234567 HTTP/1.0\r\n\r\n")
            assert (await hear(stream)).status == 200
    assert make_config(ping_seconds=20, dead_seconds=60).log.access_logger is None
    assert [line for line in logged.lines if line["logger"].startswith(("hypercorn", "sts_trio"))] == []


def test_importing_the_door_changes_nothing() -> None:
    """The guards go in when a server starts, not behind the back of who imports a module."""
    code = (
        "import sts_trio.web.app, sts_trio.web.server, hypercorn.protocol.h11 as h11;"
        "assert h11.WSStream.__module__.startswith('hypercorn')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
