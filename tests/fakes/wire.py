"""The whole web layer in memory: hypercorn's connection with our guards and the real app, without a socket.

`open_door(answer)` yields a `Wire`; `wire.call()` places a call with trio-websocket, `wire.stream()` one over plain
HTTP, `wire.connect()` gives a bare byte stream to be rude on. As in `trio.serve_listeners`, an exception that leaves a
connection ends everything.
"""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import trio
import trio.testing
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from trio_websocket import WebSocketConnection, wrap_client_stream

from sts_trio.call.handler import Refusal, Refusals
from sts_trio.web.app import create_app
from sts_trio.web.guards import GuardedTCPServer, install_guards
from sts_trio.web.server import make_config
from tests.fakes.http_caller import HttpCaller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from hypercorn.config import Config
    from hypercorn.typing import AppWrapper

    from sts_trio.core.link import Arrival, CallerStream
    from sts_trio.web.app import Scrape
    from sts_trio.web.auth import Authorizer
    from sts_trio.web.call_socket import Answer
    from sts_trio.web.call_stream import AnswerStream

    Pipe = trio.StapledStream[Any, Any]


class FakeSocket:
    """As much of a socket as hypercorn looks at."""

    family = socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return ("192.0.2.1", 50000)

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.2", 6039)


@dataclass(frozen=True, slots=True)
class Wire:
    """A server that each `connect` reaches."""

    app: AppWrapper
    config: Config
    context: WorkerContext
    servers: trio.Nursery
    clients: trio.Nursery
    refusals: Refusals = field(default_factory=Refusals)

    @property
    def live(self) -> int:
        """How many connections the server still holds."""
        return len(self.servers.child_tasks)

    async def connect(
        self,
        pair: Callable[[], tuple[Pipe, Pipe]] = trio.testing.memory_stream_pair,
    ) -> Pipe:
        """Open a connection; return the client's end. `lockstep_stream_pair` holds a writer back, memory never does."""
        client, server = pair()
        vars(server)["socket"] = FakeSocket()  # hypercorn asks it who is there
        self.servers.start_soon(self._serve, server)
        return client

    async def _serve(self, stream: trio.abc.Stream) -> None:
        try:
            await GuardedTCPServer(self.app, self.config, self.context, {}, stream)
        finally:
            await trio.aclose_forcefully(stream)  # as serve_listeners does

    async def call(self, path: str = "/", headers: list[tuple[bytes, bytes]] | None = None) -> WebSocketConnection:
        """Place a call, as Core does."""
        return await self.call_on(await self.connect(), path, headers)

    async def call_on(
        self, stream: trio.abc.Stream, path: str = "/", headers: list[tuple[bytes, bytes]] | None = None
    ) -> WebSocketConnection:
        """Do a call's handshake on a connection."""
        whatever = cast("trio.SocketStream", stream)  # it takes any, in spite of its types
        return await wrap_client_stream(
            self.clients, whatever, "sts", path, extra_headers=headers, message_queue_size=64
        )

    async def stream(self, target: str = "/speech-to-speech-stream", *headers: tuple[str, str]) -> HttpCaller:
        """Place a call over plain HTTP: the head of the request is sent."""
        caller = HttpCaller(await self.connect())
        await caller.begin(target, *headers)
        return caller


@dataclass(frozen=True, slots=True)
class FakeKeeper:
    """Refuses calls as long as `why` says something; there is room for any number."""

    why: Callable[[], str | None] = lambda: None

    def refusal(self) -> Refusal | None:
        why = self.why()
        return Refusal("full", why) if why else None

    @contextmanager
    def admit(self) -> Iterator[Refusal | None]:
        yield self.refusal()


nothing_against = FakeKeeper()


async def no_stream(stream: CallerStream, arrival: Arrival) -> None:
    """Hold no call over plain HTTP."""
    raise AssertionError("no call over plain HTTP was expected")


@asynccontextmanager
async def open_door(
    answer: Answer,
    *,
    stream: AnswerStream = no_stream,
    refuse: Callable[[], str | None] = lambda: None,
    status: Callable[[], dict[str, object]] = dict,
    scrape: Scrape | None = None,
    ping_seconds: float = 20,
    dead_seconds: float = 60,
    authorizer: Authorizer | None = None,
    most: int = 1000,
) -> AsyncIterator[Wire]:
    """Open the door in memory; on leaving, what still runs is cancelled."""
    install_guards()
    refusals = Refusals()
    app = create_app(answer, stream, FakeKeeper(refuse), status, scrape, authorizer, refusals)
    config = make_config(ping_seconds=ping_seconds, dead_seconds=dead_seconds, most=most, refusals=refusals)
    async with trio.open_nursery() as clients:
        servers = await clients.start(_hold_nursery)
        asgi = wrap_app(app, config.wsgi_max_body_size, "asgi")
        yield Wire(asgi, config, WorkerContext(None), servers, clients, refusals)
        clients.cancel_scope.cancel()


async def _hold_nursery(task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Hold the servers' nursery apart from the test, which can then cancel it and look on."""
    async with trio.open_nursery() as nursery:
        task_status.started(nursery)
        await trio.sleep_forever()
