"""A Realtime link in memory, and a server for it that only writes down what it is told."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing
from trio_websocket import ConnectionClosed, wrap_server_stream

from sts_trio.providers.base import SessionEnd
from sts_trio.providers.dial import Endpoint
from sts_trio.providers.openai.provider import RealtimeProvider
from sts_trio.providers.openai.session import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sts_trio.providers.base import AgentEvent, AgentNews
    from sts_trio.providers.openai.link import RealtimeLink

KEY = "key-that-nobody-may-see"


@asynccontextmanager
async def open_provider(
    serve: Callable[[trio.abc.Stream], Awaitable[None]], options: Options | None = None, key: str = KEY
) -> AsyncIterator[RealtimeProvider]:
    """A provider whose every connection is served by `serve`."""
    async with trio.open_nursery() as nursery:

        async def dial(endpoint: Endpoint) -> trio.abc.Stream:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(serve, theirs)
            return ours

        yield RealtimeProvider(Endpoint.from_url("wss://realtime.test/v1"), key, dial, options or Options())
        nursery.cancel_scope.cancel()


async def hear(link: RealtimeLink, kind: type[AgentEvent | AgentNews]) -> Any:
    while not isinstance(event := await link.receive(), kind):
        assert not isinstance(event, SessionEnd), event
    return event


class Scribe:
    """A server that says `script` when a session has begun, and writes down what comes; `hold`: it says no more."""

    def __init__(self, *script: dict[str, Any], hold: bool = False) -> None:
        self.script = script
        self.hold = hold
        self.heard: list[Any] = []
        self.headers: dict[bytes, bytes] = {}

    async def serve(self, stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream, message_queue_size=64, max_message_size=2**20)
            self.headers = dict(request.headers)
            connection = await request.accept()
            try:
                await connection.send_message('{"type":"session.created","session":{"id":"s"}}')
                self.heard.append(json.loads(await connection.get_message()))
                for message in () if self.hold else ({"type": "session.updated", "session": {}}, *self.script):
                    await connection.send_message(json.dumps(message))
                while True:
                    self.heard.append(json.loads(await connection.get_message()))
            except ConnectionClosed:
                nursery.cancel_scope.cancel()
