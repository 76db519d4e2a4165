"""One end of the socket pair between the switch and a worker: packets in order, some with a file in hand."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from struct import Struct
from typing import TYPE_CHECKING

import trio

from sts_trio.workers.wire import PACKET_BYTES, Text, decode, encode

if TYPE_CHECKING:
    from sts_trio.workers.wire import Message

_DESCRIPTOR = Struct("i")


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Open both ends. `SOCK_SEQPACKET`: whole packets as over UDP, and an end that can be seen as over TCP."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """The end that `ours` is. Nothing waits to be sent here but in the kernel, which holds some 270 packets."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours

    def close(self) -> None:
        """Let go of it, when nobody receives any more; the other end sees that."""
        self._socket.close()

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """Send a message, and a copy of a file descriptor with it; now, or not at all.

        False: nobody is there, there is no room because nothing is received, or the kernel lets no more descriptors be
        on their way.
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
                return file.write(text) == len(text) and self.send(Text(scrape), file.fileno())
        except OSError:
            return False

    async def receive(self) -> tuple[Message, int | None]:
        """Wait for a message, and the file descriptor that came with it, which is the receiver's to close.

        None comes if this process may not open one more file: the kernel has closed it then.

        Raises:
            trio.EndOfChannel: nobody is at the other end.
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


def read_text(descriptor: int | None) -> bytes | None:
    """Return what a file that came along holds, and close it. None: none came."""
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        file.seek(0)  # where it ends is where its writer left off
        return file.read()
