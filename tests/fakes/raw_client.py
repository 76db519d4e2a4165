"""Raw bytes of a WebSocket client, to send what no library would, and to read exactly what came.

The frames are of the lab's codec, which is not the service's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
import wsproto.events
from wsproto.connection import Connection, ConnectionType

from sts_trio.lab.websocket import BINARY, CLOSE, PING, PONG, TEXT, ClientFramer, upgrade_request

if TYPE_CHECKING:
    from collections.abc import Sequence

MASK = b"\x01\x02\x03\x04"
__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "Heard", "frame", "hear", "hear_head", "upgrade"]


def upgrade(target: str = "/", extra: Sequence[str] = ()) -> bytes:
    """Return a valid upgrade request."""
    return upgrade_request("sts", target, b"dGhlIHNhbXBsZSBub25jZQ==", *extra)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, first: int = 0) -> bytes:
    """Return one masked frame; `first` adds bits to its first byte."""
    whole = ClientFramer(MASK).encode(opcode, payload)
    return bytes([opcode | (0x80 if fin else 0) | first]) + whole[1:]


@dataclass
class Heard:
    """What a server sent until it closed the connection."""

    head: str = ""
    body: bytes = b""
    events: list[wsproto.events.Event] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.head.split(" ")[1]) if self.head.startswith("HTTP/") else 0

    @property
    def close(self) -> tuple[int, str] | None:
        """Code and reason of the close frame, if one came."""
        closes = [event for event in self.events if isinstance(event, wsproto.events.CloseConnection)]
        return (int(closes[0].code), closes[0].reason or "") if closes else None


async def hear(stream: trio.abc.ReceiveStream, already: str = "") -> Heard:
    """Read to the end of the stream; `already` is the head of the response, if that was read before."""
    data = already.encode("latin-1")
    try:
        while chunk := await stream.receive_some():
            data += chunk
    except trio.BrokenResourceError:
        pass
    head, _, body = data.partition(b"\r\n\r\n")
    heard = Heard(head.decode("latin-1"), body)
    if heard.status == 101:
        peer = Connection(ConnectionType.CLIENT)
        peer.receive_data(body)
        heard.events = list(peer.events())
    return heard


async def hear_head(stream: trio.abc.ReceiveStream) -> str:
    """Read the head of a response byte by byte, and leave what follows it."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        byte = await stream.receive_some(1)
        assert byte, data
        data += byte
    return data.decode("latin-1")
