"""Core's link over a streaming HTTP request: raw audio both ways, and nothing else (docs/protocols/core.md 1.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.core.link import SocketClosed
from sts_trio.core.wire import CallerAudio, Error, Init, PlayoutAudio

if TYPE_CHECKING:
    from sts_trio.core.link import CallerStream
    from sts_trio.core.wire import FromCore, ToCore

# A client may send sample by sample. Less than 10 ms of audio waits for more, so that the provider gets a hundred
# messages a second at the most; a caller whose chunks are longer is never held up.
_FEW_BYTES = 160
# Close codes of a call as HTTP has them; the rest are faults: 500.
_STATUS = {1000: 200, 1001: 503}


class StreamLink:
    """A `CoreLink` over a `CallerStream`.

    Its `init` is made up: `uuid` is what the request said of the call's id, if it did. There is no way to send an
    interruption or a transcript, so these go nowhere; an error can be told only in place of a response, at the end.
    """

    def __init__(self, stream: CallerStream, uuid: str | None) -> None:
        self._stream = stream
        self._first: Init | None = Init(uuid)
        self._few = b""
        self._end: SocketClosed | None = None
        self._error = ""

    async def receive(self) -> FromCore | SocketClosed:
        """See `CoreLink.receive`. First `Init`, then audio cut as it came; what came is given out before the end."""
        if self._first is not None:
            first, self._first = self._first, None
            await trio.lowlevel.checkpoint()
            return first
        while self._end is None:
            chunk = await self._stream.receive()
            if isinstance(chunk, SocketClosed):
                self._end = chunk
            else:
                self._few += chunk
            if len(self._few) >= _FEW_BYTES or (self._end and self._few):
                pcm, self._few = self._few, b""
                return CallerAudio(pcm)
        await trio.lowlevel.checkpoint()
        return self._end

    async def send(self, message: ToCore) -> None:
        """See `CoreLink.send`."""
        if isinstance(message, PlayoutAudio):
            await self._stream.send(message.audio)
            return
        if isinstance(message, Error):
            self._error = message.message
        await trio.lowlevel.checkpoint()

    async def close(self, code: int, reason: str) -> None:
        """See `CoreLink.close`. If nothing has been sent yet, that tells what ended the call: the last error."""
        await self._stream.close(_STATUS.get(code, 500), "" if code == 1000 else self._error or reason)
