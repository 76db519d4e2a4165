"""Where the audio in the playout comes from: what is measured at the moment it leaves for Core. Pure.

It follows the playout's bytes in their order, and shares nothing with the code that decides what a barge-in takes back.
So it sees when that goes wrong: audio queued before a barge-in, or of a reply that was interrupted, which leaves all
the same, is counted as stale.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES, seconds
from sts_trio.core.wire import Interruption, PlayoutAudio

if TYPE_CHECKING:
    from sts_trio.call.meter import Meter
    from sts_trio.call.outcome import CallCounts
    from sts_trio.core.wire import ToCore

_MOST_REPLIES = 64  # ids remembered, to know a reply again that was interrupted
_MOST_PARTS = 1000  # of the queue; a provider that changes the reply more often is taken not to


@dataclass(slots=True)
class _Part:
    """Audio of one reply in the queue: its bytes, the barge-ins before it, the turn that it answers (0: none)."""

    reply: str
    barge_ins: int
    turn: int
    size: int


class PlayoutAudit:
    """One call's. Times are those of the caller of a method, in seconds."""

    def __init__(self, counts: CallCounts, meter: Meter) -> None:
        self._counts = counts
        self._meter = meter
        self._parts: deque[_Part] = deque()
        self._seen: deque[str] = deque(maxlen=_MOST_REPLIES)
        self._last = ""
        self._barge_ins = 0
        self._interrupted: frozenset[str] = frozenset()
        self._turns = 0
        self._before_turn: frozenset[str] = frozenset()
        self._turn_at: float | None = None  # the end of a turn of the caller that has no answer yet
        self._answered_turn: float | None = None  # the same, of the turn whose answer is being written
        self._stop_at: float | None = None  # when the provider told of a barge-in that Core has not heard of yet

    def user_turn(self, now: float) -> None:
        """The caller's turn is over; its answer is the next reply that has not begun yet."""
        self._turns += 1
        self._turn_at = now
        self._before_turn = frozenset(self._seen)

    def barge_in(self, now: float, *, announced: bool) -> None:
        """The provider tells of a barge-in: what is queued, and more of the replies so far, must not leave any more.

        `announced`: Core will hear of it.
        """
        self._barge_ins += 1
        self._interrupted = frozenset(self._seen)
        if announced and self._stop_at is None:
            self._stop_at = now

    def queued(self, size: int, reply: str | None) -> None:
        """So many bytes have been put into the playout. `reply` None: more of the one before."""
        if reply is None:
            reply = self._last
        elif reply and reply not in self._seen:
            self._seen.append(reply)
        self._last = reply
        if size == 0:
            return
        turn = 0 if reply in self._before_turn else self._turns
        last = self._parts[-1] if self._parts else None
        if last is not None and (
            (last.reply, last.barge_ins, last.turn) == (reply, self._barge_ins, turn) or len(self._parts) >= _MOST_PARTS
        ):
            last.size += size
        else:
            self._parts.append(_Part(reply, self._barge_ins, turn, size))

    def emptied(self) -> None:
        """The playout has thrown its audio away."""
        self._parts.clear()

    def taken(self, size: int) -> None:
        """So many bytes leave the playout for Core."""
        stale = 0
        while size > 0 and self._parts:
            part = self._parts[0]
            leaving = min(size, part.size)
            size -= leaving
            part.size -= leaving
            if part.size == 0:
                self._parts.popleft()
            if part.barge_ins != self._barge_ins or part.reply in self._interrupted:
                stale += leaving
            elif part.turn == self._turns and self._turn_at is not None:
                self._answered_turn, self._turn_at = self._turn_at, None
        self._counts.stale_frames_sent += -(-stale // FRAME_BYTES)

    def written(self, message: ToCore, now: float) -> None:
        """Core has been sent this, and its connection has taken it."""
        if isinstance(message, PlayoutAudio):
            self._counts.written_seconds += seconds(len(message.audio))
            if self._answered_turn is not None:
                self._meter.answered(now - self._answered_turn)
                self._answered_turn = None
        elif isinstance(message, Interruption) and self._stop_at is not None:
            self._meter.stopped(now - self._stop_at)
            self._stop_at = None
