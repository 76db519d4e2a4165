"""The line that Core's `ws://` gives: JSON messages over a WebSocket (docs/protocols/core.md 1.3 and 2)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import trio
import trio_websocket

from sts_trio.lab.harness import wire
from sts_trio.lab.harness.line import LineClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sts_trio.lab.harness.address import Address

# Messages between socket and listener, who never waits: it only smooths bursts. 64 of 20 ms are 1.3 s.
_QUEUE = 64
# A minute of audio in one message, as JSON. The largest known have 16 KB (docs/protocols/core.md 2.2).
_MAX_MESSAGE = 2**21


class WebSocketLine:
    """A `Line` over an open WebSocket."""

    def __init__(self, ws: trio_websocket.WebSocketConnection) -> None:
        self._ws = ws

    async def begin(self, uuid: str) -> None:
        """See `Line.begin`."""
        await self._send(wire.init(uuid))

    async def speak(self, pcm: bytes) -> None:
        """See `Line.speak`."""
        await self._send(wire.audio(pcm))

    async def press(self, digit: str, /) -> None:
        """See `Line.press`."""
        await self._send(wire.dtmf_digit(digit))

    async def hear(self) -> wire.FromConnector:
        """See `Line.hear`."""
        with _closed_as_ours():
            return wire.decode(await self._ws.get_message())

    async def aclose(self) -> None:
        """See `Line.aclose`."""
        await self._ws.aclose()

    async def _send(self, message: str) -> None:
        with _closed_as_ours():
            await self._ws.send_message(message)


@contextmanager
def _closed_as_ours() -> Iterator[None]:
    try:
        yield
    except trio_websocket.ConnectionClosed as closed:
        if closed.reason is None:
            raise LineClosed(1006) from closed
        raise LineClosed(closed.reason.code, closed.reason.reason or "") from closed


async def shake_hands(nursery: trio.Nursery, stream: trio.abc.Stream, address: Address) -> WebSocketLine:
    """Do the WebSocket handshake on a stream; the connection's reader goes into `nursery`."""
    handshake = _Handshake(nursery)
    ws = await trio_websocket.wrap_client_stream(
        cast("trio.Nursery", handshake),  # only its start_soon is used
        cast("trio.SocketStream", stream),  # any stream does; the library's type is narrower than its needs
        address.authority,
        address.resource,
        message_queue_size=_QUEUE,
        max_message_size=_MAX_MESSAGE,
        receive_buffer_size=2**16,
    )
    handshake.done = True
    return WebSocketLine(ws)


class _Handshake:
    """Stands in for the nursery that trio-websocket starts its reader in, to notice a reader that ends too soon.

    Without it a peer that closes during the handshake would only show when the time limit has passed.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.done = False

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        await reader()
        if not self.done:
            raise trio.BrokenResourceError("the far end closed the connection during the handshake")
