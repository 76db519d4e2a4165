"""What switch and workers tell each other: one msgpack message a packet. Pure."""

from __future__ import annotations

import msgspec

PACKET_BYTES = 2**10  # no message is longer; what is, comes as a file


class Handed(msgspec.Struct, frozen=True, tag="handed"):
    """To a worker: the connection that comes along is yours."""


class Others(msgspec.Struct, frozen=True, tag="others"):
    """To a worker: what all others have together. `live` calls; `room`: one of them would take a call now."""

    live: int = 0
    room: bool = False


class Tell(msgspec.Struct, frozen=True, tag="tell"):
    """To a worker: tell your metrics, for the scrape of this number."""

    scrape: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """To the switch: what a worker has now.

    `live` calls; `places` that are taken; `new` connections, which have asked for nothing yet; connections `taken` off
    the channel since it began. `ready`: it would take a call now. `leaving`: it takes no connection any more.
    """

    live: int = 0
    places: int = 0
    new: int = 0
    taken: int = 0
    ready: bool = True
    leaving: bool = False


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """To the switch: somebody wants the metrics of all."""


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Either way: the file that comes along holds the metrics, of one worker or of all, for this scrape."""

    scrape: int


Message = Handed | Others | Tell | Report | Ask | Text

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
