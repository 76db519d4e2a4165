"""Stamps in the caller's audio: which call, which frame, when it was sent. Pure.

The way up is bit exact (a connector may put samples into other pieces, but not change them), so the first 21 bytes of
a frame's samples are the stamp, and the rest is always the same, to be compared. The time is the sender's own clock
just before the send, so a sender that is late does not look like a slow connector.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass, field

from sts_trio.audio.pcm import FRAME_BYTES
from sts_trio.harness.load.histogram import Histogram

# Mark, number of the call, number of the frame, its time in ns with the lowest bit as the flag, and a byte that makes
# it a multiple of three, so that base64 of the stamp and of the rest can be put side by side.
_STAMP = struct.Struct("<IIIQx")
STAMP_BYTES = _STAMP.size
_BODY = bytes((37 * i * i + 11 * i) % 199 + 20 for i in range(FRAME_BYTES - STAMP_BYTES))
_BODY_BASE64 = binascii.b2a_base64(_BODY, newline=False)
FRAME_NS = 20_000_000
# Audio that waits for the rest of its frame: a connector sends whole samples, but in pieces of any size. 20 s.
_MOST_WAITING = 1000 * FRAME_BYTES
_MOST_MISSING = 10_000  # of a call, remembered in case they come late; beyond, they are lost


def stamped(mark: int, call: int, number: int, now_ns: int, *, counted: bool) -> bytes:
    """Make a frame of 20 ms, as base64. `mark` is the run's own; `counted`: its latency is to be measured."""
    time = now_ns & ~1 | counted
    return binascii.b2a_base64(_STAMP.pack(mark, call, number, time), newline=False) + _BODY_BASE64


@dataclass(slots=True)
class Arrivals:
    """What has been measured of the way up, of all calls together."""

    latency: Histogram = field(default_factory=Histogram)
    jitter: Histogram = field(default_factory=Histogram)
    received: int = 0


@dataclass(slots=True)
class UpstreamCount:
    """One call's frames as the agent got them: what is missing, doubled, in the wrong order, or changed.

    Frames before the first that came are nobody's loss: a connector may drop what was said before the agent was ready.
    """

    mark: int
    arrivals: Arrivals
    call: int | None = None
    first: int = -1
    last: int = -1
    received: int = 0
    doubled: int = 0
    reordered: int = 0
    damaged: int = 0
    _missing: set[int] = field(default_factory=set)
    _given_up: int = 0
    _waiting: bytearray = field(default_factory=bytearray)
    _before_ns: int = 0

    @property
    def lost(self) -> int:
        """Frames that are missing between the first and the last that came."""
        return len(self._missing) + self._given_up

    def feed(self, pcm: bytes, now_ns: int) -> None:
        """Take a piece of audio, of any size."""
        if not self._waiting and len(pcm) == FRAME_BYTES and self._take(pcm, now_ns):
            return
        waiting = self._waiting
        waiting += pcm
        mark = self.mark.to_bytes(4, "little")
        while (at := waiting.find(mark)) >= 0:
            del waiting[:at]
            if len(waiting) < FRAME_BYTES:
                break
            self._take(bytes(waiting[:FRAME_BYTES]), now_ns)
            del waiting[:4]  # not the whole frame: of one that is cut short, the next mark is inside of it
        else:
            del waiting[:-3]
        if len(waiting) > _MOST_WAITING:
            waiting.clear()

    def _take(self, frame: bytes, now_ns: int) -> bool:
        mark, call, number, time = _STAMP.unpack_from(frame)
        if mark != self.mark:
            return False
        if frame[STAMP_BYTES:] != _BODY or (self.call is not None and call != self.call):
            self.damaged += 1
            return True
        self.call = call
        self._count(number)
        self.arrivals.received += 1
        if time & 1:
            self.arrivals.latency.add((now_ns - time) / 1e9)
            if self._before_ns:
                self.arrivals.jitter.add(abs(now_ns - self._before_ns - FRAME_NS) / 1e9)
            self._before_ns = now_ns
        return True

    def _count(self, number: int) -> None:
        if self.first < 0:
            self.first = self.last = number
            self.received = 1
        elif number > self.last:
            gap = number - self.last - 1
            if gap > _MOST_MISSING - len(self._missing):
                self._given_up += gap
            elif gap:
                self._missing.update(range(self.last + 1, number))
            self.last = number
            self.received += 1
        elif number in self._missing:
            self._missing.discard(number)
            self.reordered += 1
            self.received += 1
        else:
            self.doubled += 1
