"""What a call needs of Core's side, and Core's link over a WebSocket.

Three seams: a `CallerSocket` moves text messages (the web layer makes one of a WebSocket), a `CallerStream` raw audio
(of an HTTP request and its response); a `CoreLink` speaks in Core's messages (`core.wire`), and is all that the call
itself knows. `WebSocketLink` is one: a JSON object in each message (docs/protocols/core.md 1.3, 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from sts_trio.core.wire import CallerAudio, Digit, Init, NotUnderstood

if TYPE_CHECKING:
    from sts_trio.core.wire import FromCore, ToCore


@dataclass(frozen=True, slots=True)
class SocketClosed:
    """The caller's side is gone. `code` is the close code that came, 1005 for none, 1006 for no close frame."""

    code: int
    reason: str = ""


class CallerSocket(Protocol):
    """An accepted WebSocket. Used by one reading and one writing task."""

    async def receive(self) -> str | bytes | SocketClosed:
        """Wait for the next message. `SocketClosed` is the last one."""
        ...

    async def send(self, text: str) -> None:
        """Send a text message. Once the peer is gone this does nothing; it always passes a checkpoint."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close with `code`, and read on until the peer has answered or a short limit has passed."""
        ...


class CallerStream(Protocol):
    """A streaming HTTP request with its response: raw audio both ways. Used by one reading and one writing task."""

    async def receive(self) -> bytes | SocketClosed:
        """Wait for the next bytes, cut anywhere. `SocketClosed` is the last: 1000 for the body's end, 1006 for less."""
        ...

    async def send(self, pcm: bytes) -> None:
        """Send audio. Once the peer is gone this does nothing; it always passes a checkpoint."""
        ...

    async def close(self, status: int = 200, message: str = "") -> None:
        """End the response. If none of it has been sent, it is `status`, and other than 200 it says `message`."""
        ...


class CoreLink(Protocol):
    """One call's connection to Core, in Core's messages."""

    async def receive(self) -> FromCore | SocketClosed:
        """Wait for the next message. `SocketClosed` is the last one."""
        ...

    async def send(self, message: ToCore) -> None:
        """Send one message. Once Core is gone this does nothing; it always passes a checkpoint."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close in an orderly way, in bounded time."""
        ...


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


class _Kind(msgspec.Struct):
    type: object = None


_decode = msgspec.json.Decoder(Init | CallerAudio | Digit).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_encode = msgspec.json.Encoder().encode
_KNOWN = ("init", "audio", "dtmf_digit")


def parse_from_core(message: str | bytes) -> FromCore:
    """Read a WebSocket message, text or binary, as old connectors do (docs/protocols/core.md 1.3). Never raises."""
    try:
        heard: Init | CallerAudio | Digit = _decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        return NotUnderstood(_describe(message, exc))
    return heard


def _describe(message: str | bytes, exc: Exception) -> str:
    try:
        kind = _decode_kind(message).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return f"a message of {len(message)} characters that is no JSON object ({_where(exc)})"
    if kind in _KNOWN:
        return f"a broken {kind} message ({_where(exc)})"
    if isinstance(kind, str):
        return f"an unknown message type {kind[:32]!r}"
    return "a message without a type"


def _where(exc: Exception) -> str:
    return str(exc).split(":")[0][:80]


def encode_to_core(message: ToCore) -> str:
    """Write one message as the JSON text that Core expects."""
    return _encode(message).decode()
