"""What a call needs of Core's side, and Core's link over a WebSocket.

Three seams: a `CallerSocket` moves text messages (the web layer makes one of a WebSocket), a `CallerStream` raw audio
(of an HTTP request and its response); a `CoreLink` speaks in Core's messages (`core.wire`), and is all that the call
itself knows. `WebSocketLink` is one: a JSON object in each message (docs/protocols/core.md 1.3, 2). `StreamLink` is
the other: raw audio both ways over a streaming HTTP request (docs/protocols/core.md 1.5).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

import msgspec
import trio

from sts_trio.core.wire import CallerAudio, Digit, Error, Init, NotUnderstood, PlayoutAudio

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sts_trio.core.wire import FromCore, ToCore


# Core sends seven short parameters, and one for each field that a webhook of the operator's adds
# (docs/protocols/core.md 6.1): of a whole record, perhaps. These bounds keep a hostile URL, 64 KiB at most
# (`web.http1.BoundedHeads`), from living on in a call.
MAX_PARAMETERS = 256
MAX_NAME = 64
MAX_VALUE = 1024
_PLUS_OF_NUMBER = re.compile(r"(?:(?<=[=:])|(?<=%3A))\+(?=[0-9])", re.IGNORECASE)  # also in `sip:+49...`


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a caller reached us.

    `query` holds the URL's parameters, unchecked: any name, any character. `uuid` is Core's id of the call, from the
    `X-UUID` header or else the parameter `uuid` (docs/protocols/core.md 1.3, 6.1); None when neither came. Both may be
    telephone numbers or nonsense: log and forward with care.
    """

    query: Mapping[str, str]
    uuid: str | None = None


def parse_query(query: bytes) -> dict[str, str]:
    """Read a query string leniently; never raises.

    The last of a repeated name wins; the first `MAX_PARAMETERS` names are kept, names cut at `MAX_NAME` and values at
    `MAX_VALUE` characters. Broken percent-encoding stays as it is, bytes that are no UTF-8 become U+FFFD. A plus stands
    for a blank (as in forms), but for one that begins a telephone number: whoever writes a URL by hand forgets that.
    """
    kept: dict[str, str] = {}
    text = _PLUS_OF_NUMBER.sub("%2B", query.decode(errors="replace"))
    for name, value in parse_qsl(text, keep_blank_values=True, errors="replace"):
        short = name[:MAX_NAME]
        if short in kept or len(kept) < MAX_PARAMETERS:
            kept[short] = value[:MAX_VALUE]
    return kept


def parse_arrival(query: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Arrival:
    """Read what a request says of its call. Header names are expected in lower case, as ASGI gives them."""
    parameters = parse_query(query)
    uuid = next((value.decode("latin-1").strip() for name, value in headers if name == b"x-uuid"), "")
    return Arrival(parameters, uuid[:MAX_VALUE] or parameters.get("uuid") or None)


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
