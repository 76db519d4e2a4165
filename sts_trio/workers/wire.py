"""What switch and workers tell each other: one msgpack message a packet. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE_BYTES = 2**15
PACKET_BYTES = 2**16  # no message is longer; the kernel's buffer for a socket (212 KB by default) holds several
MOST_TEXT_BYTES = 2**22  # of metrics; one worker's are 20 KB


class Handed(msgspec.Struct, frozen=True, tag="handed"):
    """To a worker: the connection whose descriptor comes along is yours."""


class Others(msgspec.Struct, frozen=True, tag="others"):
    """To a worker: what all others have together. `live` calls; `room`: one of them would take a call now."""

    live: int = 0
    room: bool = False


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """To a worker: tell your metrics, on pages of this number."""

    number: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """To the switch: what a worker has now.

    `live` calls; `places` that are taken; `silent` connections, which have asked for nothing yet; connections `taken`
    off the channel since it began. `ready`: it would take a call now. `leaving`: it takes no connection any more.
    """

    live: int = 0
    places: int = 0
    silent: int = 0
    taken: int = 0
    ready: bool = True
    leaving: bool = False


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """To the switch: somebody wants the metrics of all."""


class Page(msgspec.Struct, frozen=True, tag="page"):
    """Either way: a part of a text of metrics, of one worker or of all."""

    number: int
    data: bytes
    last: bool


Message = Handed | Others | Tell | Report | Ask | Page

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Return the packet that says so."""
    return _encoder.encode(message)


def decode(packet: bytes) -> Message:
    """Return what a packet says.

    Raises:
        msgspec.DecodeError: it is none of ours; both ends are the same program, so that is a fault of it.
    """
    return _decoder.decode(packet)


def pages(number: int, text: bytes) -> Iterator[Page]:
    """Cut a text into pages."""
    for begin in range(0, max(len(text), 1), PAGE_BYTES):
        yield Page(number, text[begin : begin + PAGE_BYTES], last=begin + PAGE_BYTES >= len(text))


class Reading:
    """Puts the pages of a text together. Those of a text that never ended, or grew too long, are thrown away."""

    def __init__(self) -> None:
        self._number = 0
        self._data = bytearray()

    def feed(self, page: Page) -> bytes | None:
        """Add a page. Returns the text, if that was its last."""
        if page.number != self._number or len(self._data) > MOST_TEXT_BYTES:
            self._number = page.number
            self._data.clear()
        self._data += page.data
        if not page.last:
            return None
        text = bytes(self._data)
        self._data.clear()
        return text
