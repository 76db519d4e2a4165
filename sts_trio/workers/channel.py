"""The socket pair between the supervisor and a worker: its messages, and one end of it.

One msgpack message is one packet. Packets keep their order, and some bring a file descriptor along.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

import msgspec
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKET_BYTES = 2**10  # no message is longer; longer texts travel as a file
_DESCRIPTOR = Struct("i")


class Connection(msgspec.Struct, frozen=True, tag="connection"):
    """To a worker: the accepted connection whose descriptor comes along is yours."""


class Others(msgspec.Struct, frozen=True, tag="others"):
    """To a worker: what all other workers have together. `live` calls; `room`: one of them would take a call now."""

    live: int = 0
    room: bool = False


class Scrape(msgspec.Struct, frozen=True, tag="scrape"):
    """To a worker: send your metrics, for the scrape of this number."""

    number: int


class Report(msgspec.Struct, frozen=True, tag="report"):
    """To the supervisor: what a worker has now.

    `live` calls; `places` that are taken; `new` connections, which have sent no request yet; connections `taken` off
    the channel since it began. `ready`: it would take a call now. `detached`: it takes no connection any more.
    """

    live: int = 0
    places: int = 0
    new: int = 0
    taken: int = 0
    ready: bool = True
    detached: bool = False


class ScrapeRequest(msgspec.Struct, frozen=True, tag="scrape_request"):
    """To the supervisor: a client wants the metrics of all workers."""


class ScrapeResult(msgspec.Struct, frozen=True, tag="scrape_result"):
    """Both ways: the file that comes along holds the metrics, of one worker or of all, for this scrape."""

    number: int


Message = Connection | Others | Scrape | Report | ScrapeRequest | ScrapeResult

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """Encode a message as one msgpack packet, at most `PACKET_BYTES` long."""
    return _encoder.encode(message)


def decode(packet: bytes) -> Message:
    """Decode one packet.

    Raises:
        msgspec.DecodeError: it is no message of ours. Both ends are the same program, so that is a fault of it.
    """
    return _decoder.decode(packet)


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Open both ends. `SOCK_SEQPACKET` keeps packets whole, as UDP does, and shows when the other end is closed."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """One end of the pair. Outgoing packets wait only in the kernel, which holds some 270 of them."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours

    def close(self) -> None:
        """Close this end, once no task receives from it any more; the other end sees that."""
        self._socket.close()

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """Send a message, and a copy of a file descriptor with it; now, or not at all.

        False: the other end is closed, it does not receive and there is no room left, or the kernel lets no more
        descriptors be on their way.
        """
        try:
            socket.send_fds(self._socket, [encode(message)], [] if descriptor is None else [descriptor])
        except OSError:
            return False
        return True

    def send_text(self, text: bytes, scrape: int) -> bool:
        """Send a text of any length as a file in memory. False: see `send`; or no more files may be opened."""
        try:
            with os.fdopen(os.memfd_create("metrics"), "wb", buffering=0) as file:
                return file.write(text) == len(text) and self.send(ScrapeResult(scrape), file.fileno())
        except OSError:
            return False

    async def receive(self) -> tuple[Message, int | None]:
        """Wait for a message. Returns it with the file descriptor that came along, which the receiver must close.

        The descriptor is None also if this process may not open one more file: the kernel has closed it then.

        Raises:
            trio.EndOfChannel: the other end is closed.
        """
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._receive()

    def _receive(self) -> tuple[Message, int | None]:
        space = socket.CMSG_SPACE(_DESCRIPTOR.size)
        try:  # `socket.recv_fds` forgets the flags
            packet, rights, _, _ = self._socket.recvmsg(PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            raise trio.EndOfChannel from None
        if not packet:
            raise trio.EndOfChannel
        return decode(packet), _DESCRIPTOR.unpack(rights[0][2])[0] if rights else None


def take_back(theirs: socket.socket) -> Iterator[int]:
    """Take the connections that are still on their way to `theirs` out of it: a worker has what it has received only.

    Every packet has one receiver, whoever is first. Other messages are lost; they are sent again, or of no use later.
    """
    while True:
        space = socket.CMSG_SPACE(_DESCRIPTOR.size)
        try:
            packet, rights, _, _ = theirs.recvmsg(PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT)
        except OSError:
            return
        if not packet:
            return
        if rights:
            yield _DESCRIPTOR.unpack(rights[0][2])[0]


def read_text(descriptor: int | None) -> bytes | None:
    """Read the file that came with a `ScrapeResult`, and close it. None: no file came."""
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        file.seek(0)  # its position is shared with the writer, who left it at the end
        return file.read()
