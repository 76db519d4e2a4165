"""A stream that can be frozen, or made slow to read. A lock keeps frames whole: several tasks send."""

from __future__ import annotations

import math
import socket
import struct

import trio

SEND_SECONDS = 30.0  # a client that reads nothing for so long is gone
POLL_SECONDS = 0.1  # how soon it is seen that the client left, of whom nothing is read
SLICE_SECONDS = 0.1  # a slow reader's reads
MAX_HELD = 2**24  # bytes that a stream in memory may have waiting
SMALL_BUFFER = 4096  # bytes that the kernel takes for a slow reader (Linux doubles it)
TCP_ESTABLISHED = 1  # first byte of TCP_INFO (linux/tcp.h)


class FaultyStream(trio.abc.Stream):
    """Stands between the WebSocket and its stream.

    While frozen, nothing is read, so the end of the stream cannot show that the client left. It is found by the state
    of the socket instead (TCP_INFO); a stream in memory is read ahead, up to `MAX_HELD` bytes.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._lock = trio.Lock()
        self._frozen_until = -math.inf
        self._rate = math.inf
        self._held = bytearray()

    def freeze(self, seconds: float) -> None:
        """Neither read nor send for so long."""
        self._frozen_until = trio.current_time() + seconds

    def read_slowly(self, bytes_per_second: float) -> None:
        """Read no faster from now on."""
        self._rate = bytes_per_second
        if isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send when not frozen.

        Raises:
            TooSlowError: the client does not read.
        """
        async with self._lock:
            if trio.current_time() < self._frozen_until:
                await trio.sleep_until(self._frozen_until)
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Part of `trio.abc.SendStream`; not used here."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Read what may be read.

        Raises:
            BrokenResourceError: the client left while it was not read.
        """
        await self._wait(self._frozen_until)
        size = max_bytes or 2**16
        if self._rate < math.inf:
            size = min(size, max(int(self._rate * SLICE_SECONDS), 1))
        if self._held:
            await trio.lowlevel.checkpoint()
        else:
            self._held += await self._stream.receive_some(size)
            await self._wait(self._frozen_until)  # frozen while it waited
        data = bytes(self._held[:size])
        del self._held[:size]
        if self._rate < math.inf:
            await self._wait(trio.current_time() + len(data) / self._rate)
        return data

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()

    async def reset(self) -> None:
        """Drop the connection with a TCP RST; an in-memory stream just ends."""
        await drop(self._stream, reset=True)

    async def _wait(self, until: float) -> None:
        while trio.current_time() < until:
            if isinstance(self._stream, trio.SocketStream):
                if self._stream.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED:
                    raise trio.BrokenResourceError("the client left")
                await trio.sleep(min(POLL_SECONDS, until - trio.current_time()))
            elif len(self._held) >= MAX_HELD:
                await trio.sleep_until(until)
            else:
                with trio.move_on_at(until):
                    if not (data := await self._stream.receive_some()):
                        raise trio.BrokenResourceError("the client left")
                    self._held += data


async def drop(stream: trio.abc.Stream, *, reset: bool) -> None:
    """Close a connection at once: with a RST, or in order. An in-memory stream just ends."""
    if reset and isinstance(stream, trio.SocketStream):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)
