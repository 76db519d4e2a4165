"""Core's link over a WebSocket: one JSON object in each message (docs/protocols/core.md 1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import encode_to_core, parse_from_core

if TYPE_CHECKING:
    from sts_trio.core.link import CallerSocket
    from sts_trio.core.wire import FromCore, ToCore


class WebSocketLink:
    """A `CoreLink` in JSON text messages over a `CallerSocket`."""

    def __init__(self, socket: CallerSocket) -> None:
        self._socket = socket

    async def receive(self) -> FromCore | SocketClosed:
        """See `CoreLink.receive`."""
        message = await self._socket.receive()
        return message if isinstance(message, SocketClosed) else parse_from_core(message)

    async def send(self, message: ToCore) -> None:
        """See `CoreLink.send`."""
        await self._socket.send(encode_to_core(message))

    async def close(self, code: int, reason: str) -> None:
        """See `CoreLink.close`."""
        await self._socket.close(code, reason)
