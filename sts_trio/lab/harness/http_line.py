"""The line that Core's `http://` gives: raw audio both ways in one streaming POST (docs/protocols/core.md 1.5)."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import h11
import msgspec
import trio

from sts_trio.audio.pcm import SampleAligner
from sts_trio.lab.harness import wire
from sts_trio.lab.harness.line import LineClosed, LineRefused

if TYPE_CHECKING:
    from sts_trio.lab.harness.address import Address

# A refusal's text, `{"message": ...}`: how much of it is read, for how long, and how much is told.
_REFUSAL_BYTES = 4096
_REFUSAL_SECONDS = 2.0
_REFUSAL_SHOWN = 200
_READ_BYTES = 2**16


class _Refusal(msgspec.Struct):
    message: str


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
        try:
            text = msgspec.json.decode(body, type=_Refusal).message
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return ""
        shown = "".join(char if char.isprintable() else " " for char in text[:_REFUSAL_SHOWN]).strip()
        return f": {shown}" if shown else ""

    async def _send(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        try:
            await self._stream.send_all(self._http.send(event) or b"")
        except (h11.LocalProtocolError, trio.BrokenResourceError) as exc:  # the listener knows the cause
            raise LineClosed(1006) from exc
