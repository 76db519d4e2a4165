"""What a call needs of Core's side, whatever carries it.

Three seams: a `CallerSocket` moves text messages (the web layer makes one of a WebSocket), a `CallerStream` raw audio
(of an HTTP request and its response); a `CoreLink` speaks in Core's messages (`core.wire`), and is all that the call
itself knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
