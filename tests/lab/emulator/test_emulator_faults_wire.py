"""Faults that need a kernel: RST, buffers that fill, a port where nobody listens; and the command as a process."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from sts_trio.lab.emulator import (
    Cut,
    Drop,
    Emulator,
    EmulatorOptions,
    HalfOpen,
    NoMetadata,
    Outage,
    Reset,
    ResetInFrame,
    SlowReader,
    serve_emulator,
)
from sts_trio.lab.emulator.faulty_stream import drop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UPGRADE = (
    b"GET /chat?api_key=k HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
FRAME = b"\x82\xfe\xff\xff\0\0\0\0" + bytes(65_535)  # a client's binary frame


@pytest.fixture(autouse=True)
async def limit() -> AsyncIterator[None]:
    """No test here takes longer than this."""
    with trio.fail_after(30):
        yield


@asynccontextmanager
async def listening(*faults: Any, **options: Any) -> AsyncIterator[tuple[Emulator, int]]:
    """An emulator on a port of loopback."""
    served = Emulator(EmulatorOptions(faults=faults, **options))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(lambda task_status: serve_emulator(served, task_status=task_status))
        yield served, port_of(url)
        nursery.cancel_scope.cancel()


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


async def connect(port: int) -> trio.SocketStream:
    """A connection with its upgrade sent, and small buffers."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await stream.send_all(UPGRADE)
    return stream


@asynccontextmanager
async def chat_at(port: int) -> AsyncIterator[WebSocketConnection]:
    """A chat; unlike `open_websocket`, this closes its socket also when the server was the first to close."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, "x", "/chat?api_key=k", message_queue_size=64)
        nursery.cancel_scope.cancel()


async def read_to_reset(stream: trio.SocketStream) -> bytes:
    """What came before the RST; another end fails the test."""
    got = bytearray()
    with pytest.raises(trio.BrokenResourceError):
        await read_to_end(stream, got)
    await stream.aclose()
    return bytes(got)


async def read_to_end(stream: trio.SocketStream, got: bytearray) -> None:
    while data := await stream.receive_some():
        got += data


async def connect_and_read(sock: trio.socket.SocketType, port: int) -> None:
    await sock.connect(("127.0.0.1", port))  # not `open_tcp_stream`: it forgets a socket that is reset at once
    await sock.recv(1)


async def test_a_drop_is_a_reset_or_an_end() -> None:
    async with listening(Drop(connections=0), Drop(reset=False, connections=1)) as (served, port):
        with trio.socket.socket() as sock, pytest.raises(ConnectionResetError):
            await connect_and_read(sock, port)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        assert await stream.receive_some() == b""
        await stream.aclose()
        assert served.faults == {"drop": 2}


async def test_half_a_frame_arrives_and_then_the_reset() -> None:
    async with listening(NoMetadata(), ResetInFrame(0.1)) as (served, port):
        got = await read_to_reset(await connect(port))
        frame = got.partition(b"\r\n\r\n")[2]
        assert frame[:4] == b"\x81\x7e\x07\xd0"  # text, 2000 bytes
        assert len(frame) == 4 + 1000
        assert served.live == ()


async def test_a_reset_and_a_cut_are_not_the_same() -> None:
    async with listening(NoMetadata(), Reset(0.1, connections=0), Cut(0.1, connections=1)) as (_, port):
        assert (await read_to_reset(await connect(port))).startswith(b"HTTP/1.1 101 ")
        stream = await connect(port)
        await read_to_end(stream, bytearray())
        await stream.aclose()


@pytest.mark.parametrize("fault", [HalfOpen(), SlowReader(0, 10_000)], ids=lambda fault: fault.name)
async def test_who_is_not_read_cannot_send_for_ever(fault: Any) -> None:
    async with listening(fault) as (served, port):
        async with await connect(port) as stream:
            await stream.receive_some()
            sent = 0
            with trio.move_on_after(0.7):
                while True:
                    await stream.send_all(FRAME)
                    sent += len(FRAME)
            assert sent < 20 * 2**20  # what the kernels hold; loopback takes gigabytes a second
            (session,) = served.live
            assert session.chat.caller_bytes < 200_000
            await drop(stream, reset=True)
        await session.ended.wait()
        assert session.close_code == 1006


@pytest.mark.parametrize("fault", [HalfOpen(), SlowReader(0, 10_000)], ids=lambda fault: fault.name)
async def test_who_is_not_read_may_leave_all_the_same(fault: Any) -> None:
    async with listening(fault) as (served, port):
        async with await connect(port) as stream:
            await stream.receive_some()
            await trio.sleep(0.05)
            await stream.send_all(FRAME)
            (session,) = served.live
        with trio.fail_after(5):  # at 10 kB/s it would take longer
            await session.ended.wait()
        assert session.close_code == 1006


async def test_a_half_open_connection_answers_no_ping_and_thaws() -> None:
    async with (
        listening(HalfOpen(0, 0.5, at="ready")) as (served, port),
        chat_at(port) as client,
    ):
        await client.get_message()
        await trio.sleep(0.05)
        begin = trio.current_time()
        await client.ping()
        assert trio.current_time() - begin > 0.3
        assert served.faults == {"half_open": 1}


async def test_in_an_outage_connections_are_refused_and_chats_go_on() -> None:
    async with (
        listening(outages=(Outage(0.3, 0.4),)) as (served, port),
        chat_at(port) as client,
    ):
        await client.get_message()
        await trio.sleep(0.5)
        with pytest.raises(OSError, match="failed") as info:
            await trio.open_tcp_stream("127.0.0.1", port)
        assert "ConnectionRefusedError" in repr(info.value.__cause__)
        await client.ping()
        await trio.sleep(0.4)
        async with chat_at(port) as again:
            await again.get_message()
            assert len(served.live) == 2


async def test_emulate_takes_a_file_of_faults(tmp_path: Path) -> None:
    faults = tmp_path / "faults.toml"
    faults.write_text(
        'max_chats = 1\n[[faults]]\nfault = "close"\nat = "ready"\nafter = 0.2\ncode = 4321\nreason = "as planned"\n'
    )
    async with trio.open_nursery() as nursery:
        command = [sys.executable, "-m", "sts_trio", "emulate", "--port", "0", "--faults", str(faults)]
        log = (tmp_path / "log").open("wb")
        start = partial(trio.run_process, stdout=-1, stderr=log, check=False, env={"PATH": os.environ["PATH"]})
        process: trio.Process = await nursery.start(start, command)
        assert process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some(1)
        async with chat_at(port_of(line.decode())) as client:
            assert "chat_metadata" in str(await client.get_message())
            assert "session_settings" in str(await client.get_message())
            with pytest.raises(ConnectionClosed) as info:
                await client.get_message()
            assert info.value.reason is not None
            assert (int(info.value.reason.code), info.value.reason.reason) == (4321, "as planned")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        log.close()
    assert "fault=close" in (tmp_path / "log").read_text() or '"fault": "close"' in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.toml", '[[faults]]\nfault = "close"\ncode = 1006\n', "bad.toml: faults[0]: no close frame has the code"),
        ("none.toml", None, "none.toml: No such file or directory"),
    ],
)
async def test_a_wrong_file_of_faults_is_one_clear_line(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = await trio.run_process(
        [sys.executable, "-m", "sts_trio", "emulate", "--port", "0", "--faults", str(tmp_path / name)],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stderr.startswith(b"sts-trio: ")
    assert done.stderr.count(b"\n") == 1
