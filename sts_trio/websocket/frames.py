"""WebSocket frames (RFC 6455, 5.2), as far as a conversation consists of them: whole messages, one frame each. Pure.

Fifty frames a second and call come in, and as many go out. A library that knows all of RFC 6455 takes some 25 µs for
each (wsproto 1.3, measured); these few lines take 2. They handle the plain case only, and leave all others to it.
"""

from __future__ import annotations

import os

TEXT, BINARY, PING, PONG = 0x81, 0x82, 0x89, 0x8A  # first bytes of a final frame
_LENGTH16, _LENGTH64 = 126, 127
_LENGTH_BYTES = {_LENGTH16: 2, _LENGTH64: 8}
_NO_LENGTH = 1 << 64
_MASKED = 0x80
_LONGEST_CONTROL = 125
_NEVER = -1
_POOLED_KEYS = 64


class FrameParser:
    """Cuts what a peer sends into plain messages, and the rest.

    A plain message is an unfragmented text or binary frame of at most `most` bytes. Pings and pongs are passed on for
    others to act on. Whatever else comes (a fragment, a close, an error) is passed on as well, with all that follows:
    from then on `closed` is true, and whoever gets it has seen no half frame, nor will he miss one.
    """

    def __init__(self, *, masked: bool, most: int) -> None:
        self.closed = False
        self._mask = _MASKED if masked else 0
        self._longest = {TEXT: most, BINARY: most, PING: _LONGEST_CONTROL, PONG: _LONGEST_CONTROL}
        self._waiting = bytearray()  # the beginning of a frame
        self._needed = 0  # bytes, until there is something new to see in it

    def feed(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        """Return the plain messages that are complete now, and the bytes that others must see."""
        if self.closed:
            return [], data
        if not self._waiting:
            return self._split(data)
        self._waiting += data
        if len(self._waiting) < self._needed:
            return [], b""
        data = bytes(self._waiting)
        self._waiting.clear()
        return self._split(data)

    def _split(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        messages: list[str | bytes] = []
        others = b""
        at, end = 0, len(data)
        while end - at >= 2:
            kind, length = data[at], data[at + 1] ^ self._mask
            body = at + 2 + _LENGTH_BYTES.get(length, 0)
            if body > end:
                self._needed = body - at
                break
            if length >= _LENGTH16:
                length = self._long(length, data[at + 2 : body])
            if length > self._longest.get(kind, _NEVER):
                return messages, others + self._leave(data[at:])
            key = body
            if self._mask:
                body += 4
            stop = body + length
            if stop > end:
                self._needed = stop - at
                break
            if kind >= PING:
                others += data[at:stop]
            else:
                payload = mask(data[body:stop], data[key:body]) if self._mask else data[body:stop]
                try:
                    messages.append(payload if kind == BINARY else payload.decode())
                except UnicodeDecodeError:
                    return messages, others + self._leave(data[at:])
            at = stop
        else:
            self._needed = 2
        self._waiting += data[at:]
        return messages, others

    def _long(self, marker: int, digits: bytes) -> int:
        """Return a length that has a field of its own; what should have none, or is no marker of one, is no length."""
        length = int.from_bytes(digits)
        fits = (marker == _LENGTH16 and length >= _LENGTH16) or (marker == _LENGTH64 and length >= 1 << 16)
        return length if fits else _NO_LENGTH

    def _leave(self, rest: bytes) -> bytes:
        self.closed = True
        return rest


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask, or unmask (RFC 6455, 5.3). As one long number: 1.3 µs for 470 bytes."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def frame(kind: int, payload: bytes) -> bytes:
    """Return a server's frame: a whole message, or a control frame."""
    return _head(kind, len(payload), 0) + payload


class ClientFramer:
    """Makes a client's frames. Their keys cannot be foretold (RFC 6455, 10.3); fetched by the dozen."""

    def __init__(self) -> None:
        self._pool = b""
        self._used = 0

    def frame(self, kind: int, payload: bytes) -> bytes:
        """Return a masked frame."""
        if self._used == len(self._pool):
            self._pool, self._used = os.urandom(4 * _POOLED_KEYS), 0
        key = self._pool[self._used : self._used + 4]
        self._used += 4
        return _head(kind, len(payload), _MASKED) + key + mask(payload, key)


def _head(kind: int, size: int, masked: int) -> bytes:
    if size < _LENGTH16:
        return bytes((kind, masked | size))
    if size < 1 << 16:
        return bytes((kind, masked | _LENGTH16)) + size.to_bytes(2)
    return bytes((kind, masked | _LENGTH64)) + size.to_bytes(8)


class TokenBucket:
    """`rate` units a second, and at most `burst` units saved up; full at first."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, wanted: float, now: float) -> float:
        """Take up to `wanted` units; return how many were left to take."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        taken = min(wanted, self._left)
        self._left -= taken
        return taken
