"""The caller's voice on its way to the agent: whole samples, in frames, no faster than a telephone. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES, SampleAligner, is_loud, pieces
from sts_trio.call.actions import LogWarning, SendAudio
from sts_trio.call.allowance import RealTimeLimit

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.outcome import CallCounts


class UpstreamFrames:
    """Takes what Core sends as it comes: any number of bytes, at any pace."""

    def __init__(self, counts: CallCounts, now: float) -> None:
        self._counts = counts
        self._aligner = SampleAligner()
        self._rate = RealTimeLimit(now)
        self._loud_at = -inf

    def feed(self, data: bytes, now: float, *, listen: bool) -> Actions:
        """Return the pieces to send. `listen`: somebody asks for `quiet_for` at the moment; it costs a little."""
        pcm = self._rate.admit(self._aligner.feed(data), now)
        if listen and is_loud(pcm):
            self._loud_at = now
        if self._rate.excess_seconds > self._counts.upstream_excess_seconds:
            return (*self._too_fast(), *(SendAudio(piece) for piece in pieces(pcm)))
        if 0 < len(pcm) <= FRAME_BYTES:
            return (SendAudio(pcm),)
        return tuple(SendAudio(piece) for piece in pieces(pcm))

    def quiet_for(self, now: float) -> float:
        """Seconds since the caller was last loud, while it was listened to."""
        return now - self._loud_at

    def _too_fast(self) -> Actions:
        told = self._counts.upstream_excess_seconds > 0
        self._counts.upstream_excess_seconds = self._rate.excess_seconds
        return () if told else (LogWarning("Core sends audio faster than real time; what is too much is dropped"),)
