"""One end of the socket pair between the switch and a worker: packets in order, some with a connection in hand."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import trio

from sts_trio.workers.wire import PACKET_BYTES, decode, encode

if TYPE_CHECKING:
    from sts_trio.workers.wire import Message

_ONE_DESCRIPTOR = 4  # bytes


def open_pair() -> tuple[socket.socket, socket.socket]:
    """Open both ends. `SOCK_SEQPACKET`: whole packets as over UDP, and an end that can be seen as over TCP."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """The end that `ours` is. Any number of tasks may send, one may receive."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = trio.socket.from_stdlib_socket(ours)
        self._sending = trio.Lock()

    def close(self) -> None:
        """Let go of it; the other end sees that."""
        self._socket.close()

    async def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message, and a copy of a file descriptor with it; waits for room.

        Raises:
            trio.BrokenResourceError: nobody is at the other end.
            OSError: the kernel does not pass the descriptor on (its limit of those on their way).
        """
        rights = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _packed(descriptor))]
        async with self._sending:
            try:
                await self._socket.sendmsg([encode(message)], rights)
            except (BrokenPipeError, ConnectionResetError) as exc:
                raise trio.BrokenResourceError(str(exc)) from exc

    async def receive(self) -> tuple[Message, socket.socket | None]:
        """Wait for a message, and the socket that came with it.

        No socket comes with `Handed` if this process may not open one more file: the kernel has closed it then.

        Raises:
            trio.EndOfChannel: nobody is at the other end.
        """
        space = socket.CMSG_SPACE(_ONE_DESCRIPTOR)
        try:
            packet, rights, _, _ = await self._socket.recvmsg(PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except OSError as exc:
            raise trio.EndOfChannel from exc
        if not packet:
            raise trio.EndOfChannel
        sockets = [socket.socket(fileno=_unpacked(data)) for _, kind, data in rights if kind == socket.SCM_RIGHTS]
        return decode(packet), sockets[0] if sockets else None


def _packed(descriptor: int) -> bytes:
    return descriptor.to_bytes(_ONE_DESCRIPTOR, sys.byteorder)


def _unpacked(data: bytes) -> int:
    return int.from_bytes(data[:_ONE_DESCRIPTOR], sys.byteorder)
