"""The service on real sockets and a real clock: latencies, foreign clients, TLS, and what 200 calls leave behind."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import socket
import ssl
import statistics
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed
from websockets.sync.client import connect as foreign_connect

from sts_trio.errors import ProviderRefused
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_emulator, serve_stream
from sts_trio.providers.base import AgentReady, CallInfo
from sts_trio.providers.dial import TcpDial
from sts_trio.wiring import open_provider
from tests.call.stage import BOTH, ONE, as_heard, make_settings
from tests.e2e.evi import open_core, open_evi, until
from tests.e2e.service import FRAME, INIT, hear, service
from tests.fakes.raw_client import CLOSE, TEXT, frame, upgrade

if TYPE_CHECKING:
    from tests.e2e.evi import Evi


@BOTH
async def test_first_audio_within_10_ms_and_barge_in_within_30(provider: str) -> None:
    """A chunk of 100 ms leaves within 10 ms of its arrival, `interruption` within 30 ms of the provider's event."""
    first, stop = [], []
    async with open_evi(provider) as evi, service(evi.url, provider) as url, open_core(url) as core:
        await core.send_message(INIT)
        await until(lambda: evi.chats)
        for number in range(10):
            sent = await evi.speak(0, 0.1, f"r{number}")
            first.append(await hear(core, "audio") - sent)
            for _ in range(80):
                await evi.speak(0, 0.1, f"r{number}")
            await trio.sleep(0.02)
            sent = await evi.interrupt(0)
            stop.append(await hear(core, "interruption") - sent)
            with trio.move_on_after(0.05) as quiet:
                await hear(core, "audio")
            assert quiet.cancelled_caught, "audio of the old reply came after the interruption"
    for name, figures in {"first audio": first, "barge-in": stop}.items():
        print(f"{name}: median {statistics.median(figures) * 1000:.2f} ms, worst {max(figures) * 1000:.2f} ms")
    assert statistics.median(first) < 0.010
    assert statistics.median(stop) < 0.030


@BOTH
async def test_a_minute_of_caller_audio_reaches_the_provider_bit_exact(provider: str) -> None:
    """As fast as the sockets go."""
    pcm = bytes(range(256)) * 3750  # 960,000 bytes: 60 s
    async with open_evi(provider) as evi, service(evi.url, provider) as url, open_core(url) as core:
        await core.send_message(INIT)
        await until(lambda: evi.chats)
        for start in range(0, len(pcm), 320):
            audio = base64.b64encode(pcm[start : start + 320]).decode()
            await core.send_message('{"type":"audio","audio":"' + audio + '"}')
        await until(lambda: len(evi.received) == len(pcm))
        assert bytes(evi.received) == as_heard(pcm, provider)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "?uuid=1",
        "/?from=1&to=2&channel=PJSIP%2F2000-00000013",
        "/speech-to-speech-stream",
        "/speech-to-speech-stream/",
        "/speech-to-speech-stream/?from=1&from=2&x=[object Object]",
        "//speech-to-speech-stream//",
    ],
)
@ONE
async def test_a_foreign_client_holds_a_call_on_every_form_of_the_url(provider: Any, path: str) -> None:
    def converse(url: str) -> list[str]:
        with foreign_connect(url.replace(" ", "%20"), compression="deflate", open_timeout=5) as socket:
            assert socket.protocol.extensions == []  # permessage-deflate was offered and declined
            socket.send(INIT)
            socket.send(FRAME)
            kinds = []
            while "audio" not in kinds:
                kinds.append(json.loads(socket.recv(timeout=5))["type"])
            return kinds

    async with trio.open_nursery() as nursery:
        agent_url = await nursery.start(serve_emulator, Emulator(EmulatorOptions(service=provider)))
        async with service(agent_url, provider, welcome_message="Hello!") as url:
            assert "audio" in await trio.to_thread.run_sync(converse, url + path)
        nursery.cancel_scope.cancel()


@ONE
async def test_tls_is_verified(provider: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(theirs)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    emulator = Emulator(EmulatorOptions(service=provider))
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_ssl_over_tcp_listeners(0, theirs, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, partial(serve_stream, emulator), listeners)
        transport = listeners[0].transport_listener
        assert isinstance(transport, trio.SocketListener)
        port = transport.socket.getsockname()[1]
        url = f"wss://localhost:{port}/" + ("v0/evi/chat" if provider == "humeai" else "v1")
        settings = make_settings(provider, "k", welcome_message="", url=url)
        async with open_provider(settings, TcpDial(trusting))(CallInfo(id="a")) as link:
            assert isinstance(await link.receive(), AgentReady)
        with pytest.raises(ProviderRefused, match=rf"TLS certificate of localhost:{port} is not trusted"):
            async with open_provider(settings, TcpDial(ssl.create_default_context()))(CallInfo(id="b")):
                pass
        nursery.cancel_scope.cancel()


@ONE
async def test_core_hears_that_the_connection_was_refused(provider: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with service(f"ws://127.0.0.1:{port}/", provider, ready_seconds=1.0) as url, open_core(url) as core:
        await core.send_message(INIT)
        error = json.loads(await core.get_message())
        assert error["message"].startswith(f"cannot connect to 127.0.0.1:{port}: Connection refused")


@ONE
async def test_closes_that_cross_each_other_are_no_fault(provider: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The provider hangs up in its handshake while the caller does, too: both sides close, at about the same time."""

    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()

    def hang_up_early(address: tuple[str, int]) -> None:
        for number in range(120):
            with socket.create_connection(address, timeout=5) as core:
                core.sendall(upgrade())
                core.recv(4096)
                core.sendall(frame(TEXT, INIT.encode()))
                time.sleep(number % 30 * 0.0002)
                with contextlib.suppress(OSError):
                    core.sendall(frame(CLOSE, b"\x03\xe8"))
                    while core.recv(4096):
                        pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, hang_up, listeners)
        async with service(f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}/", provider) as url:
            host, _, port = url.removeprefix("ws://").rpartition(":")
            await trio.to_thread.run_sync(hang_up_early, (host, int(port)))
            await trio.sleep(0.2)
        nursery.cancel_scope.cancel()
    logged = capfd.readouterr().out
    assert logged.count("call ended") == 120
    assert "Busy" not in logged
    assert "cancelled" not in logged


@ONE
async def test_a_refusal_without_end_is_cut_off(provider: str) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        with contextlib.suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * 65536)

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, refuse, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with service(f"ws://127.0.0.1:{port}/", provider) as url, open_core(url) as core:
            await core.send_message(INIT)
            began = trio.current_time()
            assert json.loads(await core.get_message())["type"] == "error"
            assert trio.current_time() - began < 1
        nursery.cancel_scope.cancel()


@ONE
async def test_core_hears_that_tls_failed(provider: str) -> None:
    """An endpoint that speaks no TLS at all."""
    async with (
        open_evi(provider) as evi,
        service(evi.url.replace("ws://", "wss://"), provider, ready_seconds=1.0) as url,
        open_core(url) as core,
    ):
        await core.send_message(INIT)
        error = json.loads(await core.get_message())
        assert error["type"] == "error"
        assert "TLS handshake" in error["message"]
        with pytest.raises(ConnectionClosed):
            await core.get_message()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def place(url: str, evi: Evi, nursery: trio.Nursery, number: int) -> trio.CancelScope:
    """Open a call that stays until its scope is cancelled, with both directions used."""
    scope = trio.CancelScope()
    ready = trio.Event()

    async def hold() -> None:
        with scope:
            async with open_core(url) as core:
                await core.send_message(INIT)
                for _ in range(5):
                    await core.send_message(FRAME)
                await until(lambda: len(evi.chats) > number)
                await evi.speak(number, 0.1, "r")
                await hear(core, "audio")
                ready.set()
                await trio.sleep_forever()

    nursery.start_soon(hold)
    await ready.wait()
    return scope


async def place_all(url: str, evi: Evi, nursery: trio.Nursery, numbers: range) -> list[trio.CancelScope]:
    """Open calls at once; return when all are under way."""
    scopes: list[trio.CancelScope] = []

    async def one(number: int) -> None:
        scopes.append(await place(url, evi, nursery, number))

    async with trio.open_nursery() as placing:
        for number in numbers:
            placing.start_soon(one, number)
    return scopes


@ONE
async def test_200_calls_leave_nothing_behind(provider: str) -> None:
    async with open_evi(provider) as evi, service(evi.url, provider) as url:
        async with trio.open_nursery() as nursery:
            (await place(url, evi, nursery, 0)).cancel()
        await until(lambda: not evi.chats)
        await trio.sleep(0.2)
        tasks, files = trio.lowlevel.current_statistics().tasks_living, open_files()
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                scopes = await place_all(url, evi, nursery, range(50))
                assert len(evi.chats) == 50
                for scope in scopes:
                    scope.cancel()
            await until(lambda: not evi.chats)
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
        await until(lambda: open_files() <= files)


@ONE
async def test_a_live_call_costs_less_than_600_kb(provider: str) -> None:
    """Both ends of the test live in this process too, so the figure is an upper bound."""
    async with open_evi(provider) as evi, service(evi.url, provider) as url, trio.open_nursery() as nursery:
        await place_all(url, evi, nursery, range(10))  # first uses: imports, pools, the resampler's tables
        gc.collect()
        before = resident()
        await place_all(url, evi, nursery, range(10, 70))
        each = (resident() - before) / 60
        print(f"memory: {each / 1000:.0f} KB a call")
        assert each < 600_000
        nursery.cancel_scope.cancel()
