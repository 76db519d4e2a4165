"""A provider on loopback that says what a test tells it to, when it tells it to."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
    wrap_client_stream,
)

from tests.call.fakes import tone, wav_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


@dataclass(eq=False)
class Evi:
    """Chats that are open, and everything that came in binary frames; `messages` is what came as text, decoded."""

    url: str = ""
    chats: list[WebSocketConnection] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def _serve(self, request: WebSocketRequest) -> None:
        chat = await request.accept()
        await chat.send_message(json.dumps({"type": "chat_metadata", "chat_id": "c", "chat_group_id": "g"}))
        self.chats.append(chat)
        try:
            while True:
                message = await chat.get_message()
                if isinstance(message, bytes):
                    self.received += message
                else:
                    self.messages.append(json.loads(message))
        except ConnectionClosed:
            self.chats.remove(chat)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type that came, in order."""
        return [message for message in self.messages if message["type"] == kind]

    async def say(self, chat: int, **message: object) -> float:
        """Send a message; return when."""
        at = trio.current_time()
        await self.chats[chat].send_message(json.dumps(message))
        return at

    async def speak(self, chat: int, length: float, reply: str, rate: int = 48_000) -> float:
        """Send a chunk of speech; return when."""
        data = base64.b64encode(wav_file(tone(length, rate=rate), rate)).decode()
        return await self.say(chat, type="audio_output", id=reply, index=0, data=data)


@asynccontextmanager
async def open_evi() -> AsyncIterator[Evi]:
    """Serve on a free port of loopback."""
    evi = Evi()
    async with trio.open_nursery() as nursery:
        serving = partial(serve_websocket, evi._serve, "127.0.0.1", 0, None, max_message_size=2**24)
        server = await nursery.start(serving)
        evi.url = f"ws://127.0.0.1:{server.port}/v0/evi/chat"
        yield evi
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object], limit: float = 10.0) -> None:
    """Wait until a condition on things outside of our control holds (another process, the kernel)."""
    with trio.fail_after(limit):
        while not condition():
            await trio.sleep(0.005)


async def at_once(check: Callable[..., Awaitable[object]], rows: Iterable[tuple[object, ...]]) -> None:
    """Run a check for all rows at the same time, for their waits and their processes are long; a failure names its row.

    Rows share nothing but the machine.
    """

    async def one(row: tuple[object, ...]) -> None:
        try:
            await check(*row)
        except Exception as exc:
            exc.add_note(f"in the row {row}")
            raise

    async with trio.open_nursery() as nursery:
        for row in rows:
            nursery.start_soon(one, row)


@asynccontextmanager
async def open_core(url: str) -> AsyncIterator[WebSocketConnection]:
    """Call as Core does.

    trio_websocket's own client leaves its socket open when the peer closed first; this one does not.
    """
    parts = urlsplit(url)
    stream = await trio.open_tcp_stream(parts.hostname or "", parts.port or 80)
    async with stream, trio.open_nursery() as nursery:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = await wrap_client_stream(nursery, stream, "sts", path, message_queue_size=512)
        try:
            yield connection
        finally:
            cancelled = trio.current_effective_deadline() == -inf  # the reader is, too: no answer could be read
            with trio.move_on_after(0.02 if cancelled else 1, shield=True):
                await connection.aclose()
            nursery.cancel_scope.cancel()
