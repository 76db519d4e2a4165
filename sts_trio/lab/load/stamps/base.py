"""What stamps in the caller's audio tell: which frames arrived, in which order, and how long each took. Pure.

How a stamp is written depends on what the provider's protocol leaves of the samples: `pcm` or `g711`. The time is
the sender's own clock just before the send, so a sender that is late does not look like a slow connector.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sts_trio.lab.load.histogram import Histogram

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAME_NS = 20_000_000
_MOST_MISSING = 10_000  # of a call, remembered in case they come late; beyond, they are lost


class Stamp(NamedTuple):
    """Frame `number` of a call, from 0, and when it was sent, in ns. `counted`: its latency is to be measured."""

    call: int
    number: int
    sent_ns: int
    counted: bool


class Stamper(Protocol):
    """Makes frames."""

    def __call__(self, call: int, number: int, now_ns: int, *, counted: bool) -> bytes:
        """Make a frame of 20 ms (s16le, 8000 Hz), as base64."""
        ...


class StampReader(Protocol):
    """Finds the frames again in one call's audio, which comes in pieces of any size."""

    def read(self, audio: bytes, now_ns: int) -> Iterable[Stamp | None]:
        """Give the stamp of each frame that is complete; None for one that is damaged."""
        ...


@dataclass(slots=True)
class Arrivals:
    """What has been measured of the way up, of all calls together."""

    latency: Histogram = field(default_factory=Histogram)
    jitter: Histogram = field(default_factory=Histogram)
    received: int = 0


@dataclass(slots=True)
class UpstreamCount:
    """One call's frames as the agent got them: what is missing, doubled, in the wrong order, or changed.

    Frames before the first that came do not count as lost: a connector may drop what was said before the agent was
    ready.
    """

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
    _before_ns: int = 0

    @property
    def lost(self) -> int:
        """Frames that are missing between the first and the last that came."""
        return len(self._missing) + self._given_up

    def take(self, stamps: Iterable[Stamp | None], now_ns: int) -> None:
        """Take the frames that have arrived now. Another call's are as damaged as those that cannot be read."""
        for stamp in stamps:
            if stamp is None or (self.call is not None and self.call != stamp.call):
                self.damaged += 1
                continue
            self.call = stamp.call
            self._count(stamp.number)
            self.arrivals.received += 1
            if stamp.counted:
                self.arrivals.latency.add((now_ns - stamp.sent_ns) / 1e9)
                if self._before_ns:
                    self.arrivals.jitter.add(abs(now_ns - self._before_ns - FRAME_NS) / 1e9)
                self._before_ns = now_ns

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
