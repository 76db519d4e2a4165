"""A caller's line to a connector: a WebSocket (docs/protocols/core.md 1.3 and 2) or a streaming POST (1.5)."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol, cast

import h11
import trio
import trio_websocket

from sts_trio.audio.pcm import SampleAligner
from sts_trio.errors import StsError
from sts_trio.lab.handshake_nursery import HandshakeNursery
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.address import refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sts_trio.lab.harness.address import Address


class LineClosed(StsError):
    """The far end is gone. `code` is the close code that came, 1005 for none, 1006 for no close frame.

    Over HTTP it is 1000 when the response has ended, and 1006 when it broke off.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


class LineRefused(StsError):
    """The far end took no call. The message says in one line what it answered."""


class Line(Protocol):
    """Used by one task that speaks and one that listens.

    A method may raise what its stream and its library raise; `harness.caller` knows them all.
    """

    async def begin(self, uuid: str) -> None:
        """Say which call this is."""
        ...

    async def speak(self, pcm: bytes) -> None:
        """Send caller audio. Raises `LineClosed` once the far end is gone."""
        ...

    async def press(self, digit: str, /) -> None:
        """Send a key, if there is a way to."""
        ...

    async def hear(self) -> wire.FromConnector:
        """Wait for the next message. Raises `LineClosed` after the last, `LineRefused` in place of all."""
        ...

    async def aclose(self) -> None:
        """Hang up, and wait until the far end has; the caller sets the limit. The stream stays the caller's."""
        ...


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
    handshake = HandshakeNursery(nursery)
    ws = await trio_websocket.wrap_client_stream(
        cast("trio.Nursery", handshake),
        cast("trio.SocketStream", stream),  # any stream does; the library's type is narrower than its needs
        address.authority,
        address.resource,
        message_queue_size=_QUEUE,
        max_message_size=_MAX_MESSAGE,
        receive_buffer_size=2**16,
    )
    handshake.done = True
    return WebSocketLine(ws)


# A refusal's text: how much of it is read, and for how long.
_REFUSAL_BYTES = 4096
_REFUSAL_SECONDS = 2.0
_READ_BYTES = 2**16


class HttpLine:
    """A `Line` over a stream. Only audio goes either way: a key is not sent, and no message but audio is heard."""

    def __init__(self, stream: trio.abc.Stream, address: Address) -> None:
        self._stream = stream
        self._address = address
        self._http = h11.Connection(h11.CLIENT)
        self._aligner = SampleAligner()
        self._answered = False

    async def begin(self, uuid: str) -> None:
        """See `Line.begin`. Old connectors send the head of the response with the first audio: it is not waited for."""
        headers = [
            ("Host", self._address.authority),
            ("Content-Type", "application/octet-stream"),
            ("Transfer-Encoding", "chunked"),
            ("X-UUID", uuid),
        ]
        await self._send(h11.Request(method="POST", target=self._address.resource, headers=headers))

    async def speak(self, pcm: bytes) -> None:
        """See `Line.speak`."""
        await self._send(h11.Data(pcm))

    async def press(self, _digit: str, /) -> None:
        """See `Line.press`. There is none here."""
        await trio.lowlevel.checkpoint()

    async def hear(self) -> wire.FromConnector:
        """See `Line.hear`. Whole samples, as they come."""
        while True:
            match await self._next():
                case h11.Response(status_code=200):
                    self._answered = True
                case h11.Response(status_code=status):
                    raise LineRefused(f"answered HTTP {status}{await self._refusal()}")
                case h11.Data(data=data):
                    if pcm := self._aligner.feed(bytes(data)):
                        return wire.Audio(pcm)
                case h11.EndOfMessage():
                    raise LineClosed(1000)

    async def aclose(self) -> None:
        """See `Line.aclose`."""
        with suppress(LineClosed, LineRefused):
            await self._send(h11.EndOfMessage())
            while True:
                await self.hear()

    async def _next(self) -> h11.Event:
        """Wait for the next part of the response."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(bytes(await self._stream.receive_some(_READ_BYTES)))
        except (h11.RemoteProtocolError, trio.BrokenResourceError) as exc:
            if not self._answered:
                raise LineRefused("closed the connection, or answered with something that is no HTTP") from exc
            raise LineClosed(1006) from exc
        if isinstance(event, h11.Event):
            return event
        raise LineClosed(1000)  # PAUSED: the response has ended, and was told

    async def _refusal(self) -> str:
        """Read why no call was taken, as far as it is told."""
        body = bytearray()
        with trio.move_on_after(_REFUSAL_SECONDS), suppress(LineClosed, LineRefused):
            while len(body) < _REFUSAL_BYTES and isinstance(event := await self._next(), h11.Data):
                body += event.data
        return refusal(bytes(body))

    async def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            await self._stream.send_all(self._http.send(event) or b"")
        except (h11.LocalProtocolError, trio.BrokenResourceError) as exc:  # the listener knows the cause
            raise LineClosed(1006) from exc
