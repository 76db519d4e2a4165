"""A caller over plain HTTP: one streaming request, its response, and when each byte of that came."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(eq=False)
class HttpCaller:
    """Core's end of a call. `status` is 0 until the head of the response has come, at `answered_at`.

    `ended`: how the response ended, "end" or "broken"; `ended_at` is when. `arrivals`: time and size of each piece.
    """

    socket: trio.abc.HalfCloseableStream
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    began_at: float = 0.0
    answered_at: float = 0.0
    ended: str = ""
    ended_at: float = 0.0

    def __post_init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT)

    async def begin(self, target: str, *headers: tuple[str, str], method: str = "POST") -> None:
        """Send the head of a request whose body is chunked, unless a header says otherwise."""
        framing = [] if any(name == "Content-Length" for name, _ in headers) else [("Transfer-Encoding", "chunked")]
        self.began_at = trio.current_time()
        await self._send(h11.Request(method=method, target=target, headers=[("Host", "sts"), *framing, *headers]))

    async def say(self, pcm: bytes) -> None:
        """Send audio as one chunk."""
        await self._send(h11.Data(pcm))

    async def speak(self, pcm: bytes, sizes: Callable[[], int] = lambda: 320) -> None:
        """Send audio in real time, in chunks of these sizes."""
        began, sent = trio.current_time(), 0
        while sent < len(pcm):
            chunk = pcm[sent : sent + sizes()]
            await self.say(chunk)
            sent += len(chunk)
            await trio.sleep_until(began + sent / 16000)

    async def hang_up(self) -> None:
        """End the body."""
        await self._send(h11.EndOfMessage())

    async def hear(self, size: int) -> bytes:
        """Wait until so many more bytes of the body have come, or it has ended; return what came."""
        before = len(self.body)
        while len(self.body) < before + size and not self.ended:
            await self._next()
        return bytes(self.body[before:])

    async def hear_head(self) -> int:
        """Wait for the head of the response; return its status."""
        while not self.status and not self.ended:
            await self._next()
        return self.status

    async def hear_out(self) -> HttpCaller:
        """Wait for the end of the response."""
        while not self.ended:
            await self._next()
        return self

    async def _next(self) -> None:
        try:
            event = self._http.next_event()
            while event is h11.NEED_DATA:
                self._http.receive_data(bytes(await self.socket.receive_some()))
                event = self._http.next_event()
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            event = h11.ConnectionClosed()
        now = trio.current_time()
        match event:
            case h11.Response():
                self.status, self.answered_at = event.status_code, now
                self.headers = {name.decode(): value.decode() for name, value in event.headers}
            case h11.Data():
                self.body += event.data
                self.arrivals.append((now, len(event.data)))
            case h11.EndOfMessage():
                self.ended, self.ended_at = "end", now
            case h11.ConnectionClosed() | h11.PAUSED:
                self.ended, self.ended_at = "broken", now

    async def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        with suppress(trio.BrokenResourceError):
            await self.socket.send_all(self._http.send(event) or b"")
