"""What waits to go to Core, and when it may: messages at once, the agent's voice paced. Pure.

Providers speak faster than real time. What we hold back can be taken back, so we stay at most a *lead* ahead of what
the caller hears: a barge-in is exact, and Core's memory is bounded. Core plays in real time, first in, first out
(docs/protocols/core.md 3); the clock below follows what it has been given. Time is an argument.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, FRAME_SECONDS, seconds
from sts_trio.call.meter import NoMeter
from sts_trio.call.outcome import CallCounts
from sts_trio.call.trail import PlayoutAudit
from sts_trio.core.wire import PlayoutAudio

if TYPE_CHECKING:
    from sts_trio.call.meter import Meter
    from sts_trio.core.wire import ToCore

# A tenth of a second in a message: five frames, so that a talking agent costs ten messages a second and not fifty.
_LONGEST_MESSAGE_SECONDS = 0.1
# Two minutes of unheard agent speech, 1.9 MB: far more than any reply. Beyond it the newest is dropped and counted.
_MOST_QUEUED_BYTES = 120 * BYTES_PER_SECOND
# Transcripts and the like for a Core that does not read. Beyond it the oldest is dropped.
_MOST_QUEUED_MESSAGES = 256
_EPSILON = 1e-6  # a microsecond: times are sums of floats


@dataclass(frozen=True, slots=True)
class Pace:
    """How audio goes to Core, in seconds: at most `lead` ahead of what the caller hears, `message` in one message."""

    lead: float = 0.5
    message: float = _LONGEST_MESSAGE_SECONDS


class Playout:
    """The queue towards Core. Lead and messages are at least one frame.

    `counts` are the call's; `trail` measures what leaves.
    """

    def __init__(self, pace: Pace, meter: Meter | None = None) -> None:
        self.counts = CallCounts()
        self.trail = PlayoutAudit(self.counts, meter or NoMeter())
        self._lead = max(pace.lead, FRAME_SECONDS)
        longest = min(max(pace.message, FRAME_SECONDS), self._lead)
        self._longest = int((longest + _EPSILON) / FRAME_SECONDS) * FRAME_BYTES
        self._messages: deque[ToCore] = deque(maxlen=_MOST_QUEUED_MESSAGES)
        self._audio = bytearray()
        self._queued = 0.0
        self._played_at = -inf  # when the caller will have heard all that Core was given

    def post(self, message: ToCore) -> None:
        """Queue a message that is not audio; it goes before any audio."""
        self.counts.messages_dropped += len(self._messages) == _MOST_QUEUED_MESSAGES
        self._messages.append(message)
        self.counts.messages_peak = max(self.counts.messages_peak, len(self._messages))

    def push(self, pcm: bytes, reply: str | None = None) -> float:
        """Queue agent audio of any length; it leaves in whole frames. Returns the seconds dropped for lack of room.

        `reply` is what it is a part of; None: of the same as before.
        """
        room = _MOST_QUEUED_BYTES - len(self._audio)
        kept = pcm[:room] if len(pcm) > room else pcm
        self._audio += kept
        self._queued += seconds(len(kept))
        self.trail.queued(len(kept), reply)
        self.counts.downstream_peak_seconds = max(self.counts.downstream_peak_seconds, seconds(len(self._audio)))
        return seconds(len(pcm) - len(kept))

    def end_reply(self) -> None:
        """Fill the last frame with silence, so that no part of the reply stays behind."""
        silence = -len(self._audio) % FRAME_BYTES
        self._audio += bytes(silence)
        self._queued += seconds(silence)
        self.trail.queued(silence, None)

    def clear(self, now: float) -> None:
        """Barge-in: forget the audio that waits, and what Core has been given and is about to forget too."""
        self._queued = self.heard(now)
        self._audio = bytearray()
        self.trail.emptied()
        self._played_at = min(self._played_at, now)

    def take(self, now: float) -> ToCore | None:
        """Return the next message to send now, or None.

        A message that is not audio stays until `sent` confirms it, so that the end of the call cannot lose it.
        """
        if self._messages:
            return self._messages[0]
        size = self._next_size()
        if size == 0 or now + _EPSILON < self._allowed_at(size):
            return None
        pcm = bytes(self._audio[:size])
        del self._audio[:size]
        self.trail.taken(size)
        self._played_at = max(self._played_at, now) + seconds(size)
        return PlayoutAudio(pcm)

    def sent(self, message: ToCore, now: float) -> None:
        """Confirm that a taken message has been sent."""
        self.trail.written(message, now)
        if self._messages and self._messages[0] is message:
            self._messages.popleft()

    def due(self) -> float:
        """When `take` will have something; infinity as long as nothing waits."""
        if self._messages:
            return -inf
        size = self._next_size()
        return self._allowed_at(size) if size else inf

    def played_at(self, now: float) -> float:
        """When the caller will have heard all that has been queued so far."""
        return max(self._played_at, now) + seconds(len(self._audio))

    @property
    def queued(self) -> float:
        """Seconds of audio queued since the call began, without what a barge-in took back."""
        return self._queued

    def heard(self, now: float) -> float:
        """How many of the `queued` seconds the caller has heard by `now`."""
        return self._queued - (self.played_at(now) - now)

    def left_over(self) -> list[ToCore]:
        """Return the messages that were not sent. The audio is of no more use."""
        return list(self._messages)

    def _next_size(self) -> int:
        return min(len(self._audio) // FRAME_BYTES * FRAME_BYTES, self._longest)

    def _allowed_at(self, size: int) -> float:
        return self._played_at + seconds(size) - self._lead
