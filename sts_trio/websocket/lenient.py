"""A provider's frames, read as leniently as may be: fragments are joined, and what is too large is passed over. Pure.

The library behind a `FastPath` takes some 25 µs for each frame, keeps fragments without end (empty ones among them),
and holds a message whole before it finds it too large. Here a frame costs about 1 µs, and what will not be used is
never held. Only pings and pongs, the close, and what breaks the protocol are left to the library.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.websocket.frames import BINARY, PING, PONG, TEXT, FrameParser

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.websocket.frames import TokenBucket

MOST_FRAGMENTS = 1000  # of one message; no sane peer cuts 8 MiB into more
# Only audio may be larger (`fits` says what that is). What a call needs of anything else is a hundredth of it.
LARGE_BYTES = 2**18
# What is looked at to tell what a large message is.
_HEAD_BYTES = 1024
_UNIT_BYTES = 4096
_FINAL = 0x80
_KIND = 0x0F
_CONTINUATION = 0x00
_LENGTHS = {126: 2, 127: 8}
_LONGEST_CONTROL = 125


class PassedOver(bytes):
    """Stands among messages for one that was not kept. `size`: its bytes, as far as they had been announced."""

    size: int

    @classmethod
    def of(cls, size: int) -> PassedOver:
        """Return the mark of a message of `size` bytes."""
        mark = cls()
        mark.size = size
        return mark


class LenientParser(FrameParser):
    """Cuts a server's bytes into messages, and the rest, which is the library's; see `FrameParser`.

    Of messages above `LARGE_BYTES` those are kept whose beginning `fits`, and that have at most `most` bytes. A message
    that is not kept becomes a `PassedOver`. Text that is no UTF-8 has U+FFFD where it is none.

    `pace` is what the peer may send: a unit for each frame, of any kind, and for each 4 KiB. Who sends more is read
    later, at `rest_until`: it is made to wait, and nothing is lost.
    """

    def __init__(self, *, most: int, fits: Callable[[bytes], bool], pace: TokenBucket) -> None:
        super().__init__(masked=False, most=most)
        self.rest_until = -inf
        self._pace = pace
        self._frames = 0  # in the last bytes that came
        self._most = most
        self._fits = fits
        self._kind: int | None = None  # of the message whose fragments come
        self._parts = bytearray()
        self._fragments = 0
        self._fitting = False  # its beginning has been looked at
        self._lost = False  # it is passed over
        self._skip = 0  # bytes of a frame that is passed over

    def _resume(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            return self._split(data[skipped:])
        return super()._resume(data)

    def feed(self, data: bytes, now: float = 0.0) -> tuple[list[str | bytes], bytes]:
        """See `FrameParser.feed`."""
        self._frames = 0
        parts = self._resume(data) if self._skip or self._waiting or self.closed else self._split(data)
        debt = self._pace.charge(self._frames + len(data) / _UNIT_BYTES, now)
        self.rest_until = now + debt if debt else -inf
        return parts

    def _split(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        messages: list[str | bytes] = []
        others = b""
        at, end = 0, len(data)
        while end - at >= 2:
            first, length = data[at], data[at + 1]
            body = at + 2 + _LENGTHS.get(length, 0)
            if body > end:
                self._needed = body - at
                break
            if length > _LONGEST_CONTROL:
                length = self._long(length, data[at + 2 : body])
            stop = body + length
            if self._is_plain(first, length):
                if stop > end:
                    self._needed = stop - at
                    break
                if first >= PING:
                    others += data[at:stop]
                else:
                    whole = data[body:stop]
                    messages.append(whole if first == BINARY else whole.decode("utf-8", "replace"))
            elif not self._expected(first, length):
                return messages, others + self._close(data[at:])
            elif missing := self._data(first, length, data, body, messages):
                self._needed = body + missing - at
                break
            self._frames += 1
            at = min(stop, end)
        else:
            self._needed = 2
        self._waiting += data[at:]
        return messages, others

    def _data(self, first: int, length: int, data: bytes, body: int, messages: list[str | bytes]) -> int:
        """Take a frame of a message that is not plain. Return how many bytes of it are needed, if not all came."""
        wanted = self._wanted(first, length, data[body : body + _HEAD_BYTES])
        if wanted is None:
            return _HEAD_BYTES
        came = len(data) - body
        if wanted and came < length:
            return length
        if wanted:
            message = self._take(first, data, body, body + length)
        else:
            message = self._pass_over(first, length)
            self._skip = max(length - came, 0)
        if message is not None:
            messages.append(message)
        return 0

    def _is_plain(self, first: int, length: int) -> bool:
        """Whether this is a ping or pong, or a message in one frame that is not large."""
        if first in (TEXT, BINARY):
            return length <= LARGE_BYTES and self._kind is None
        return length <= _LONGEST_CONTROL and first in (PING, PONG)

    def _expected(self, first: int, length: int) -> bool:
        """Whether a frame of data may come now, and is well formed."""
        opening = first & ~_FINAL in (TEXT & _KIND, BINARY & _KIND)
        going_on = first & ~_FINAL == _CONTINUATION
        return (going_on if self._kind is not None else opening) and length < 1 << 63

    def _wanted(self, first: int, length: int, head: bytes) -> bool | None:
        """Whether this frame is kept. None: that cannot be told yet."""
        if self._lost:
            return False
        size = len(self._parts) + length
        if size <= LARGE_BYTES or self._fitting:
            return size <= self._most and self._fragments < MOST_FRAGMENTS
        head = bytes(self._parts[:_HEAD_BYTES]) + head
        if size > self._most or self._fragments >= MOST_FRAGMENTS:
            return False
        if len(head) < min(_HEAD_BYTES, size):
            return None
        fitting = self._fits(head[:_HEAD_BYTES])
        self._fitting = fitting and not first & _FINAL  # of a message in one frame the rest need not be remembered
        return fitting

    def _take(self, first: int, data: bytes, body: int, stop: int) -> str | bytes | None:
        """Keep a frame; return the message that it completes."""
        if first & _FINAL and self._kind is None:
            if first == BINARY:
                return data[body:stop]
            return str(memoryview(data)[body:stop], "utf-8", "replace")
        if self._kind is None:
            self._kind = first
        self._fragments += 1
        self._parts += memoryview(data)[body:stop]
        if not first & _FINAL:
            return None
        text = self._kind == TEXT & _KIND
        message = str(self._parts, "utf-8", "replace") if text else bytes(self._parts)
        self._forget()
        return message

    def _pass_over(self, first: int, length: int) -> PassedOver | None:
        """Forget the message that this frame is of. It is told of once, at the first frame that is not kept."""
        told, size = self._lost, len(self._parts) + length
        self._forget()
        if not first & _FINAL:
            self._kind, self._lost = first, True
        return None if told else PassedOver.of(size)

    def _forget(self) -> None:
        self._kind, self._parts, self._fragments = None, bytearray(), 0
        self._fitting = self._lost = False
