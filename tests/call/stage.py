"""The whole service in memory: real door, real links to providers, real emulator; only the sockets are missing."""

from __future__ import annotations

import contextlib
import warnings
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio
import trio.testing
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from trio_websocket import ConnectionClosed

from sts_trio.call.handler import Registry, Shedder
from sts_trio.lab.emulator import Emulator, EmulatorOptions, serve_stream
from sts_trio.main import build_app
from sts_trio.metrics import Metrics
from sts_trio.providers import PROVIDERS as SERVED
from sts_trio.providers import find_provider
from sts_trio.settings import Settings
from sts_trio.settings.calls import CallSettings
from sts_trio.settings.parsers import Secret
from sts_trio.settings.service import ServiceSettings
from sts_trio.web.guards import install_guards
from sts_trio.web.server import make_config
from sts_trio.wiring import build_handler
from tests.fakes.wire import Wire

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from _pytest.mark import ParameterSet
    from trio_websocket import WebSocketConnection

    from sts_trio.lab.emulator import Script
    from sts_trio.providers.dial import Dial, Endpoint
    from sts_trio.tools.tool import Tool

KEY = "key-that-nobody-may-see"
WELCOME = "Hello, how can I help you today?"
PROVIDERS = list(SERVED)


def matrix(*values: object) -> ParameterSet:
    """Leave a row to `-m matrix`: one that repeats in another protocol what a row beside it shows."""
    return pytest.param(*values, marks=pytest.mark.matrix)


# The seam's tests (a conversation, barge-in, tools, resume, fidelity, hang-up) run with each provider, what depends on
# the protocol with each protocol, and the rest with EVI, with the other protocol where the whole matrix is asked for.
ALL = pytest.mark.parametrize("provider", PROVIDERS)
BOTH = pytest.mark.parametrize("provider", PROVIDERS[:2])
ONE = pytest.mark.parametrize("provider", [PROVIDERS[0], matrix(PROVIDERS[1])])


def make_settings(provider: str = "humeai", key: str = KEY, **values: Any) -> Settings:
    """Settings that lead to the emulator, or to the `url` among the values; these are fields of any of the tables."""
    url = "wss://evi.test/v0/evi/chat" if provider == "humeai" else "https://realtime.test/v1"
    values = {"api_key": Secret(key), "url": url} | values

    def filled(table: type[Any]) -> Any:
        return table(**{each.name: values.pop(each.name) for each in fields(table) if each.name in values})

    agent, calls, service = map(filled, (find_provider(provider).settings, CallSettings, ServiceSettings))
    assert not values, f"there are no such settings: {', '.join(values)}"
    return Settings(provider=agent, calls=calls, service=service)


def as_heard(pcm: bytes, provider: str) -> bytes:
    """What is left of a voice on the way to or from a provider: OpenAI has it in G.711, the others as it is."""
    return audioop.ulaw2lin(audioop.lin2ulaw(pcm, 2), 2) if provider == "openai" else pcm


@dataclass(frozen=True, slots=True)
class Stage:
    """A running service; `wire` reaches its door."""

    wire: Wire
    emulator: Emulator
    registry: Registry
    shedder: Shedder
    metrics: Metrics
    provider: str = "humeai"

    async def call(self, path: str = "/", uuid: object = "uuid-1") -> Caller:
        """Place a call and say `init`."""
        caller = Caller(await self.wire.call(path))
        await caller.say(type="init", uuid=uuid)
        return caller

    def as_heard(self, pcm: bytes) -> bytes:
        """See the function."""
        return as_heard(pcm, self.provider)


@dataclass(slots=True)
class Caller:
    """Core's end of a call."""

    socket: WebSocketConnection

    async def say(self, **message: object) -> None:
        await self.socket.send_message(msgspec.json.encode(message).decode())

    async def speak(self, pcm: bytes, seconds: float = 0.02) -> None:
        """Send audio at real time, in frames of so many seconds."""
        size = round(seconds * 16_000)
        for start in range(0, len(pcm), size):
            await self.say(type="audio", audio=pcm[start : start + size])
            await trio.sleep(seconds)

    async def hear(self) -> dict[str, object]:
        """Wait for the next message."""
        heard: dict[str, object] = msgspec.json.decode(await self.socket.get_message())
        return heard

    async def hear_until(self, kind: str) -> dict[str, object]:
        """Wait for the next message of a type."""
        while (message := await self.hear())["type"] != kind:
            pass
        return message

    async def hear_out(self) -> tuple[list[dict[str, object]], int]:
        """Everything up to the close, and the close code."""
        heard: list[dict[str, object]] = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                heard.append(await self.hear())
        assert self.socket.closed is not None
        return heard, self.socket.closed.code


@asynccontextmanager
async def open_stage(
    *,
    script: Callable[[int], Script] | None = None,
    dial: Dial | None = None,
    emulator: EmulatorOptions | None = None,
    tools: tuple[Tool, ...] = (),
    provider: str = "humeai",
    **settings: Any,
) -> AsyncIterator[Stage]:
    """Open a service whose provider is an emulator, both in memory.

    `settings` are those of `make_settings`; `tools` are offered beside those that the settings bring.
    """
    options = emulator or EmulatorOptions(api_keys=frozenset({KEY}), seed=1)
    if script is not None:
        options = EmulatorOptions(api_keys=frozenset({KEY}), seed=1, script=script)
    options = replace(options, service=provider)
    evi = Emulator(options)
    async with trio.open_nursery() as providers:

        async def dial_emulator(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            providers.start_soon(serve_stream, evi, theirs)
            return ours

        values = make_settings(provider, **settings)
        shedder = Shedder(values.service.shed_lag_ms / 1000)
        registry = Registry(values.service.max_calls, shedder)
        metrics = Metrics(registry, "0")
        install_guards()
        board = build_handler(values, registry, dial or dial_emulator, metrics)
        board = replace(board, rules=replace(board.rules, tools=board.rules.tools + tools))

        async def scrape() -> tuple[bytes, str]:
            return metrics.scrape()

        app = wrap_app(build_app(board, scrape), 2**24, "asgi")
        config = make_config(ping_seconds=10, dead_seconds=30, refusals=registry.refused)
        async with trio.open_nursery() as servers, trio.open_nursery() as clients:
            wire = Wire(app, config, WorkerContext(None), servers, clients)
            yield Stage(wire, evi, registry, shedder, metrics, provider)
            clients.cancel_scope.cancel()
            servers.cancel_scope.cancel()
        providers.cancel_scope.cancel()
