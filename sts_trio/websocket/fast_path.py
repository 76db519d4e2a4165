"""A fast lane beside a WebSocket library, on the same stream: plain messages pass here, all else through the library.

The library does the handshake, pings, fragments, errors and the close; it reads and writes the stream through a
`FastPath`. Once it is open, whole messages are taken out of what is read before the library sees it, and our own
messages are written beside the library's. Nothing is ever in doubt: what is not plain closes the lane for good, and
from that byte on the library has the stream to itself.

Why (measured on one core, a call with 50 messages a second each way, one leg): with hypercorn's and wsproto's way
about 4 thousandths of a core, with this 1.
"""

from __future__ import annotations

import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import trio

from sts_trio.websocket.frames import frame
from sts_trio.websocket.tls import TlsStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.websocket.frames import FrameParser

_Bytes: TypeAlias = bytes | bytearray | memoryview

_READ_BYTES = 65_536
_KIB = 1024
# How long a receiver may be busy, until the library reads for itself: pings want their answer.
_AWAY_SECONDS = 3.0


class Flood(Exception):
    """The peer sends more than is admitted."""


class FastPath(trio.abc.Stream):
    """The stream that the library uses, and the lane beside it. One task receives; any task may send.

    `queued` messages may wait to be received; then nobody reads on, and TCP makes the peer wait. `make` builds frames.
    A write is given up after `patience` seconds with the connection, and is cut by no cancellation before; without
    `patience` it takes as long as it takes, and a cancellation may leave half a frame: the end of the connection.
    At most `read_bytes` are read at once: it bounds how many crumbs come between two turns of the others.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        splitter: FrameParser,
        *,
        queued: int,
        make: Callable[[int, bytes], bytes] = frame,
        patience: float = inf,
        read_bytes: int = _READ_BYTES,
    ) -> None:
        self._stream = stream
        self._splitter = splitter
        self._make = make
        self._most = queued
        self._patience = patience
        self._read_bytes = read_bytes
        self._tls = stream if isinstance(stream, TlsStream) else None
        self._wire = stream if self._tls is None else self._tls.transport  # what carries the bytes as they are
        self._socket = self._wire.socket if isinstance(self._wire, trio.SocketStream) else None
        self._admits: Callable[[float], bool] = lambda _: True
        self._opened = False
        self._closed = False
        self._flooded = False
        self._reading = False  # somebody waits for the next bytes
        self._messages: deque[str | bytes] = deque()
        self._others = b""
        self._receiver = trio.lowlevel.ParkingLot()
        self._library = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._writing = trio.Lock()
        self._heard_at = trio.current_time()

    # For the call.

    @property
    def is_open(self) -> bool:
        """Whether messages pass here."""
        return self._opened and not self._closed

    def limit(self, admits: Callable[[float], bool]) -> None:
        """From now on ask for each read how much it brings: one for each message, and one for each KiB."""
        self._admits = admits

    def open(self, data: bytes = b"") -> bytes:
        """Take messages from here on; `data` has been read already. Returns what of it is for the library."""
        self._opened = True
        if data:
            self._sort(data)
        others, self._others = self._others, b""
        return others

    def close(self) -> None:
        """Take no more messages; those that came can still be received."""
        self._closed = True
        self._receiver.unpark_all()
        self._library.unpark_all()
        self._room.unpark_all()

    async def receive(self) -> str | bytes | None:
        """Wait for the next message. None: the lane is closed, and what comes now comes through the library.

        Who waits reads, for the library as well: a task that reads for others costs another turn of the loop for each
        frame (measured: an eighth of the whole).
        """
        if self._messages or self._closed:
            await trio.lowlevel.checkpoint()  # else a burst would be one long turn
        while not self._messages:
            if self._closed:
                return None
            if self._reading or self._others:
                await self._receiver.park()
            else:
                await self._fetch()
        message = self._messages.popleft()
        if self._room and len(self._messages) < self._most:
            self._room.unpark()
        return message

    async def send(self, kind: int, payload: bytes) -> None:
        """Send a message; `kind` is the first byte of its frame. At once, if the kernel takes it: no checkpoint then.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `send_all`.
        """
        data = self._make(kind, payload)
        if self._socket is None or self._writing.locked():
            await self.send_all(data)
        else:
            if self._tls is not None:
                data = self._tls.seal(data)
            try:
                written = os.write(self._fileno(self._socket), data)
            except BlockingIOError:
                written = 0
            except OSError as exc:
                raise trio.BrokenResourceError from exc
            if written < len(data):  # nobody comes between: taking a free lock gives nobody else a turn
                await self._write(self._wire.send_all, data[written:])

    # For the library.

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket beneath; hypercorn asks it for its addresses."""
        found: trio.socket.SocketType = self._stream.socket  # type: ignore[attr-defined]  # a test's stream has one too
        return found

    @property
    def heard_at(self) -> float:
        """When the peer was last heard, by trio's clock; now, as long as we do not listen."""
        return trio.current_time() if self._room else self._heard_at

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes that are not ours; those that end the lane among them.

        Raises:
            Flood: the peer sends more than it may. What it sent is lost, and the lane closed.
        """
        if not self._opened and (data := await self._first(max_bytes)) is not None:
            return data
        while (self._reading or not self._closed) and not self._others:
            with trio.move_on_after(_AWAY_SECONDS) as waiting:
                await self._library.park()
            if waiting.cancelled_caught and not self._reading and not self._closed:  # the receiver is busy elsewhere
                await (self._fetch() if len(self._messages) < self._most else self._room.park())
        if self._others:
            others, self._others = self._others, b""
            self._receiver.unpark_all()
            return others
        if self._flooded:
            self._flooded = False
            raise Flood
        return await self._read(max_bytes)

    async def send_all(self, data: _Bytes) -> None:
        """Write; whoever comes meanwhile waits for his turn.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: the connection is gone, or the peer does not read.
        """
        await self._write(self._stream.send_all, data)

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`. Raises AttributeError, as hypercorn knows it, where there is none."""
        async with self._writing:
            await self._stream.send_eof()  # type: ignore[attr-defined]  # AttributeError is what hypercorn expects

    async def aclose(self) -> None:
        """Close the stream, and the lane with it."""
        self.close()
        await self._stream.aclose()

    async def _write(self, write: Callable[[_Bytes], Awaitable[None]], data: _Bytes) -> None:
        """Write when it is our turn, with a way of `stream` or of the wire beneath it."""
        with trio.CancelScope(shield=self._patience < inf):
            async with self._writing:
                with trio.move_on_after(self._patience) as limit:
                    await write(data)
                if limit.cancelled_caught:
                    await trio.aclose_forcefully(self)  # half a frame is out; the reader wakes, and tells
                    raise trio.BrokenResourceError(f"the peer has read nothing for {self._patience:g} s")

    async def _first(self, max_bytes: int | None) -> bytes | None:
        """Read for the library. None: the lane has opened meanwhile, and what came was sorted."""
        self._reading = True
        try:
            data = await self._read(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.close()
            raise
        finally:
            self._reading = False
            if self._receiver:
                self._receiver.unpark_all()  # he waits for what came, or to read on himself
        self._heard_at = trio.current_time()
        if not data:
            self.close()
        elif self._opened:
            self._sort(data)
            return None
        return data

    async def _fetch(self) -> None:
        """Read once, for both sides. An end is told to both; the library finds it again."""
        self._reading = True
        try:
            data = await self._read(None)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        finally:
            self._reading = False
            if self._receiver:
                self._receiver.unpark_all()  # he waits for what came, or to read on himself
            if self._closed:
                self._library.unpark_all()  # closed meanwhile: it is the library's turn
        self._heard_at = trio.current_time()
        if data:
            self._sort(data)
        else:
            self.close()

    def _sort(self, data: bytes) -> None:
        messages, others = self._splitter.feed(data)
        if not self._admits(len(messages) + len(data) / _KIB):
            self._flooded = True
            self.close()
            return
        if messages:
            self._messages += messages
        if others:
            self._others += others
            self._library.unpark_all()
        if self._splitter.closed:
            self.close()

    async def _read(self, max_bytes: int | None) -> bytes:
        """Read. trio's own way tries first, and then waits; a frame that is waited for is not there yet."""
        if self._socket is None or not self._opened:
            return bytes(await self._stream.receive_some(min(max_bytes or self._read_bytes, self._read_bytes)))
        while True:
            if self._tls is not None and self._tls.over:  # the socket may have nothing more to say, and stay open
                await trio.lowlevel.checkpoint()
                return b""
            await trio.lowlevel.wait_readable(self._fileno(self._socket))
            try:
                data = os.read(self._fileno(self._socket), self._read_bytes)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise trio.BrokenResourceError from exc
            if self._tls is None:
                return data
            if (said := self._tls.unseal(data)) is not None:
                return said

    def _fileno(self, socket: trio.socket.SocketType) -> int:
        """Asked each time: once a socket is closed, its number may be that of another call's."""
        if (number := socket.fileno()) < 0:
            raise trio.ClosedResourceError
        return number
