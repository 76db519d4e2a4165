"""A caller's line to a connector, whatever carries it: a WebSocket, or a streaming HTTP request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sts_trio.errors import StsError

if TYPE_CHECKING:
    from sts_trio.lab.harness import wire


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
