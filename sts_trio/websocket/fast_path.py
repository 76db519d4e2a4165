"""A fast path beside a WebSocket library, on the same stream, for plain messages; all else passes the library.

The library does the handshake, pings, fragments, errors and the close; it reads and writes the stream through a
`FastPath`. Once that is open, whole messages are taken out of what is read before the library sees it, and our own
messages are written beside the library's. The first bytes that are no plain message, ping or pong close the fast path
for good: from that byte on the library has the stream to itself.

Why (measured on one core, a call with 50 messages a second each way, one leg): about 4 thousandths of a core through
hypercorn and wsproto, 1 here.
"""

from __future__ import annotations

import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import trio

from sts_trio.websocket.frames import Flood, frame
from sts_trio.websocket.tls import TlsStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sts_trio.websocket.frames import FrameParser, TokenBucket

_Bytes: TypeAlias = bytes | bytearray | memoryview

_READ_BYTES = 65_536
# A write has failed: what the peer said before (why it leaves, perhaps) is still read for so long. Then the stream
# ends, though the peer may go on: it hears nothing of the call any more.
_LAST_WORDS_SECONDS = 0.25
# How long the receiver may be busy before the library reads for itself, so that pings are answered.
_AWAY_SECONDS = 3.0


class FastPath(trio.abc.Stream):
    """The stream that the library uses, and the fast path beside it. One task receives; any task may send.

    `queued` messages may wait to be received; then reading stops, and TCP makes the peer wait. `make` builds frames.
    With `patience` a write is shielded from cancellation, and closes the connection if it takes more than so many
    seconds. Without it a write has no time limit, and a cancellation may leave half a frame, which ends the connection.
    At most `read_bytes` are read at once: this bounds how many tiny messages are parsed in one turn of the event loop.
    A write that fails ends the stream for the reader, too.
    With `library_bytes` the library gets no more than that at once, for the same reason: it takes longer.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        parser: FrameParser,
        *,
        queued: int,
        make: Callable[[int, bytes], bytes] = frame,
        patience: float = inf,
        read_bytes: int = _READ_BYTES,
        library_bytes: int | None = None,
    ) -> None:
        self._stream = stream
        self._parser = parser
        self._make = make
        self._most = queued
        self._patience = patience
        self._read_bytes = read_bytes
        self._library_bytes = library_bytes
        self._tls = stream if isinstance(stream, TlsStream) else None
        self._wire = stream if self._tls is None else self._tls.transport  # beneath TLS, if there is any
        self._socket = self._wire.socket if isinstance(self._wire, trio.SocketStream) else None
        self.is_open = False
        """Whether messages pass here. An attribute: each frame that is sent asks for it."""
        self._opened = False
        self._direct = False  # we read the socket ourselves
        self._read_until = inf
        self._slow_read = trio.CancelScope()  # the last read that passed the stream
        self._closed = False
        self._flooded = False
        self._reading = False  # a task waits for the next bytes
        self._messages: deque[str | bytes] = deque()
        self._others = b""
        self._receiver = trio.lowlevel.ParkingLot()
        self._library = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()
        self._writing = trio.Lock()
        self._heard_at = trio.current_time()

    # For the call.

    def open(self, data: bytes = b"", limit: TokenBucket | None = None) -> bytes:
        """Take messages from here on; `data` has been read already. Returns the part of it that is the library's.

        `limit` bounds what the peer sends, in the units of `FrameParser.limit`.
        """
        self._opened = True
        self._direct = self._socket is not None
        self.is_open = not self._closed
        self._parser.limit = limit
        if data:
            self._parse(data)
        others, self._others = self._others, b""
        return others

    def close(self) -> None:
        """Take no more messages; those that came can still be received."""
        self._closed = True
        self.is_open = False
        self._receiver.unpark_all()
        self._library.unpark_all()
        self._room.unpark_all()

    async def receive(self) -> str | bytes | None:
        """Wait for the next message. None: the fast path is closed, and further messages pass the library.

        The task that waits here reads, for the library as well. A reading task of its own would cost another turn of
        the event loop for each frame (measured: an eighth of the whole).
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
        """Send a message; `kind` is the first byte of its frame. Passes no checkpoint if the kernel takes it at once.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as `send_all`.
        """
        data = self._make(kind, payload)
        if self._socket is None or self._writing.locked():
            await self.send_all(data)
        else:
            try:
                if self._tls is not None:
                    data = self._tls.seal(data)
                written = os.write(self._fileno(self._socket), data)
            except BlockingIOError:
                written = 0
            except (OSError, trio.BrokenResourceError) as exc:
                self._write_failed()
                raise trio.BrokenResourceError from exc
            if written < len(data):  # no other write comes between: taking a free lock is no checkpoint
                await self._write(self._wire.send_all, data[written:])

    # For the library.

    @property
    def socket(self) -> trio.socket.SocketType:
        """The socket beneath; hypercorn reads its addresses."""
        found: trio.socket.SocketType = self._stream.socket  # type: ignore[attr-defined]  # a test's stream has one too
        return found

    @property
    def heard_at(self) -> float:
        """When the peer last sent something, by trio's clock; the current time, while the full queue stops reading."""
        return trio.current_time() if self._room else self._heard_at

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes for the library: all that are no plain messages.

        Raises:
            Flood: the peer sends more than the limit allows. The last read is lost, and the fast path closed.
        """
        if not self._opened and (data := await self._first(max_bytes)) is not None:
            return data
        while (self._reading or not self._closed) and not self._others:
            with trio.move_on_after(_AWAY_SECONDS) as waiting:
                await self._library.park()
            if waiting.cancelled_caught and not self._reading and not self._closed:  # the receiver is busy
                await (self._fetch() if len(self._messages) < self._most else self._room.park())
        if not self._others:
            if self._flooded:
                self._flooded = False
                raise Flood
            data = await self._read(max_bytes)
            if self._library_bytes is None or len(data) <= self._library_bytes:
                return data
            self._others += data
        elif self._library_bytes is not None:
            await trio.lowlevel.checkpoint()  # between two of its turns
        most = self._library_bytes or len(self._others)
        others, self._others = self._others[:most], self._others[most:]
        if not self._others:
            self._receiver.unpark_all()
        return others

    async def send_all(self, data: _Bytes) -> None:
        """Write; writes that come meanwhile wait for their turn.

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
        """Close the stream, and the fast path with it."""
        self.close()
        await self._stream.aclose()

    async def _write(self, write: Callable[[_Bytes], Awaitable[None]], data: _Bytes) -> None:
        """Write when it is our turn; `write` is `send_all` of the stream, or of the transport beneath its TLS."""
        with trio.CancelScope(shield=self._patience < inf):
            async with self._writing:
                with trio.move_on_after(self._patience) as limit:
                    try:
                        await write(data)
                    except (trio.BrokenResourceError, trio.ClosedResourceError):
                        self._write_failed()
                        raise
                if limit.cancelled_caught:
                    await trio.aclose_forcefully(self)  # half a frame is out; this wakes the reader
                    raise trio.BrokenResourceError(f"the peer has read nothing for {self._patience:g} s")

    async def _first(self, max_bytes: int | None) -> bytes | None:
        """Read for the library. None: the fast path has opened meanwhile, and what came was parsed."""
        self._reading = True
        try:
            data = await self._read(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.close()
            raise
        finally:
            self._reading = False
            if self._receiver:
                self._receiver.unpark_all()  # for what came, or to read on
        self._heard_at = trio.current_time()
        if not data:
            self.close()
        elif self._opened:
            self._parse(data)
            return None
        return data

    async def _fetch(self) -> None:
        """Read once, for both sides. The end closes the fast path; the library then reads it again."""
        self._reading = True
        try:
            data = await self._read(None)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        finally:
            self._reading = False
            if self._receiver:
                self._receiver.unpark_all()  # for what came, or to read on
            if self._closed:
                self._library.unpark_all()  # closed meanwhile: it is the library's turn
        self._heard_at = trio.current_time()
        if data:
            self._parse(data)
        else:
            self.close()

    def _parse(self, data: bytes) -> None:
        try:
            messages, others = self._parser.feed(data, self._heard_at)
        except Flood:
            self._flooded = True
            self.close()
            return
        if messages:
            self._messages += messages
        if others:
            self._others += others
            self._library.unpark_all()
        if self._parser.closed:
            self.close()

    def _write_failed(self) -> None:
        """The peer hears nothing any more: end the reading, which may go on undisturbed (TLS that renegotiates)."""
        self._read_until = min(self._read_until, trio.current_time() + _LAST_WORDS_SECONDS)
        self._slow_read.deadline = self._read_until
        if self._direct and self._socket is not None:
            self._direct = False
            trio.lowlevel.notify_closing(self._socket)  # wakes the reader

    async def _read(self, max_bytes: int | None) -> bytes:
        """Read. First wait, then read: trio does it the other way round, but an awaited frame is seldom there yet."""
        if self._parser.rest_until > self._heard_at:  # by its own clock, which is the time of the last read
            await trio.sleep_until(self._parser.rest_until)
        while self._direct and self._socket is not None:
            if self._tls is not None and self._tls.over:  # the socket may have nothing more to say, and stay open
                await trio.lowlevel.checkpoint()
                return b""
            try:
                await trio.lowlevel.wait_readable(self._fileno(self._socket))
                data = os.read(self._fileno(self._socket), self._read_bytes)
            except BlockingIOError:
                continue
            except OSError as exc:
                raise trio.BrokenResourceError from exc
            except trio.ClosedResourceError:
                if self._read_until == inf:
                    raise
                break  # a write has failed
            if self._tls is None:
                return data
            if (plain := self._tls.unseal(data)) is not None:
                return plain
        with trio.CancelScope(deadline=self._read_until) as self._slow_read:
            return bytes(await self._stream.receive_some(min(max_bytes or self._read_bytes, self._read_bytes)))
        raise trio.BrokenResourceError("a write has failed")

    def _fileno(self, socket: trio.socket.SocketType) -> int:
        """Return the descriptor, asked anew each time: that of a closed socket may be given to another call's."""
        if (number := socket.fileno()) < 0:
            raise trio.ClosedResourceError
        return number
