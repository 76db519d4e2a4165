"""How much a peer may send: so much at all times, and so much more after a pause (a token bucket). Pure."""

from __future__ import annotations

from sts_trio.audio.pcm import BYTES_PER_SECOND, seconds


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


# Clocks differ, and a resampler on the way may be a little off; nobody speaks 5 % faster than time for hours.
_RATE = 1.05
# A stall of TCP ends with a burst. A minute of it is no attack, and bounded; what a caller sends all the time is.
BURST_SECONDS = 60.0


class RealTimeLimit:
    """Lets a caller's audio through in real time. What comes faster, beyond a burst, is dropped: the newest.

    `excess_seconds` is how much that was. Dropping whole samples keeps the rest in phase.
    """

    def __init__(self, now: float) -> None:
        self.excess_seconds = 0.0
        self._allowance = TokenBucket(_RATE * BYTES_PER_SECOND, BURST_SECONDS * BYTES_PER_SECOND, now)

    def admit(self, pcm: bytes, now: float) -> bytes:
        """Return what of `pcm`, whole samples, may pass now."""
        room = int(self._allowance.take(len(pcm), now)) & ~1
        if room == len(pcm):
            return pcm
        self.excess_seconds += seconds(len(pcm) - room)
        return pcm[:room]
