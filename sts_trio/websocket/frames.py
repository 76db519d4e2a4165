"""WebSocket frames (RFC 6455, 5.2) of the plain case: whole messages, one frame each. Pure.

Each call has fifty frames a second in each direction. A library that knows all of RFC 6455 takes some 25 µs for each
(wsproto 1.3, measured); these few lines take 2, and leave everything but plain messages to the library.
"""

from __future__ import annotations

import os
from math import inf

TEXT, BINARY, PING, PONG = 0x81, 0x82, 0x89, 0x8A  # first bytes of a final frame
_LENGTH16, _LENGTH64 = 126, 127
_LENGTH_BYTES = {_LENGTH16: 2, _LENGTH64: 8}
_NO_LENGTH = 1 << 64
_MASKED = 0x80
_LONGEST_CONTROL = 125
_NEVER = -1
_POOLED_KEYS = 64
_KIB = 1024


class Flood(Exception):
    """The peer sends more than the limit allows."""


class TokenBucket:
    """A rate limit: `rate` units a second, and at most `burst` units saved up; full at first."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, wanted: float, now: float) -> float:
        """Take up to `wanted` units; return how many were left to take."""
        left = min(self._burst, self._left + (now - self._at) * self._rate)
        taken = min(wanted, left)
        self._left, self._at = left - taken, now
        return taken

    def charge(self, units: float, now: float) -> float:
        """Take `units`, on credit if there are fewer; return the seconds until the debt is paid."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate) - units
        self._at = now
        return max(-self._left / self._rate, 0.0)


class FrameParser:
    """Cuts a peer's bytes into plain messages, and the rest, which is the library's.

    A plain message is an unfragmented text or binary frame of at most `most` bytes; `masked`: the peer is a client.
    Pings and pongs are part of the rest. So is anything else (a fragment, a close, an error), with all bytes after it:
    from then on `closed` is true. The rest always begins and, unless `closed`, ends at a whole frame.
    """

    rest_until = -inf  # before this time no more is to be read; here there is a `limit` instead

    def __init__(self, *, masked: bool, most: int) -> None:
        self.closed = False
        self.limit: TokenBucket | None = None
        """If set, each `feed` takes units from it: one for each message, and one for each KiB."""
        self._mask = _MASKED if masked else 0
        self._longest = {TEXT: most, BINARY: most, PING: _LONGEST_CONTROL, PONG: _LONGEST_CONTROL}
        self._waiting = bytearray()  # the beginning of a frame
        self._needed = 0  # bytes, until there is something new to see in it

    def feed(self, data: bytes, now: float = 0.0) -> tuple[list[str | bytes], bytes]:
        """Return the plain messages that are complete now, and the bytes that are the library's.

        `now` in seconds is for the `limit`.

        Raises:
            Flood: `data` is more than the limit allows; it is lost.
        """
        parts = self._resume(data) if self._waiting or self.closed else self._split(data)
        if self.limit is not None:
            cost = len(parts[0]) + len(data) / _KIB
            if self.limit.take(cost, now) < cost:
                raise Flood
        return parts

    def _resume(self, data: bytes) -> tuple[list[str | bytes], bytes]:
        """Go on with a frame whose beginning has come before, or with the bytes after the end of plain messages."""
        if self.closed:
            return [], data
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
                return messages, others + self._close(data[at:])
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
                    return messages, others + self._close(data[at:])
            at = stop
        else:
            self._needed = 2
        self._waiting += data[at:]
        return messages, others

    def _long(self, marker: int, digits: bytes) -> int:
        """Decode a length of 2 or 8 bytes; `_NO_LENGTH` if fewer bytes would have held it (RFC 6455, 5.2)."""
        length = int.from_bytes(digits)
        fits = (marker == _LENGTH16 and length >= _LENGTH16) or (marker == _LENGTH64 and length >= 1 << 16)
        return length if fits else _NO_LENGTH

    def _close(self, rest: bytes) -> bytes:
        self.closed = True
        return rest


def mask(payload: bytes, key: bytes) -> bytes:
    """Mask, or unmask (RFC 6455, 5.3). Computed as one long integer: 1.3 µs for 470 bytes."""
    size = len(payload)
    keys = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(keys)).to_bytes(size)


def frame(kind: int, payload: bytes) -> bytes:
    """Return a server's frame: a whole message, or a control frame."""
    return _head(kind, len(payload), 0) + payload


class ClientFramer:
    """Makes a client's frames. Masking keys are unpredictable (RFC 6455, 10.3); 64 are fetched at a time."""

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
