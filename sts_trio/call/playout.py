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

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, FRAME_SECONDS, pieces
from sts_trio.call.meter import AnswerTimes, CallCounts, Meter
from sts_trio.core.wire import Interruption, PlayoutAudio

if TYPE_CHECKING:
    from sts_trio.core.wire import ToCore


# A tenth of a second in a message: five frames, so that a talking agent costs ten messages a second and not fifty.
_LONGEST_MESSAGE_SECONDS = 0.1
# Ten minutes of unheard agent speech, 9.6 MB when they are there: more than anybody listens to. Beyond it the newest is
# dropped, counted, and told (`AgentSpeech`). The provider is read all the same: a barge-in may come behind it.
_MOST_QUEUED_BYTES = 600 * BYTES_PER_SECOND
_BLOCK_BYTES = BYTES_PER_SECOND  # of the queue: what little pieces are gathered in
# Transcripts and the like for a Core that does not read. Beyond it the oldest is dropped.
_MOST_QUEUED_MESSAGES = 256
_EPSILON = 1e-6  # a microsecond: times are sums of floats


@dataclass(frozen=True, slots=True)
class Pace:
    """How audio goes to Core, in seconds: at most `lead` ahead of what the caller hears, `message` in one message."""

    lead: float = 0.5
    message: float = _LONGEST_MESSAGE_SECONDS


class PcmQueue:
    """Audio that waits, first in, first out, of any length; `size` in bytes.

    It lies in blocks of a second, so that little pieces cost no more than their bytes, what has left is freed, and
    nothing is ever moved: one long buffer would be copied, and so take its memory twice, as it grows.
    """

    def __init__(self) -> None:
        self.size = 0
        self._blocks: deque[bytes | bytearray] = deque()
        self._begin = 0  # how much of the first block has left

    def append(self, pcm: bytes) -> None:
        """Add to the end."""
        self.size += len(pcm)
        last = self._blocks[-1] if self._blocks else b""
        if isinstance(last, bytearray) and len(last) + len(pcm) <= _BLOCK_BYTES:
            last += pcm
            return
        if last:
            self._blocks[-1] = bytes(last)  # without the room to grow, an eighth
        for piece in pieces(pcm, _BLOCK_BYTES):
            self._blocks.append(bytearray(piece))

    def take(self, size: int) -> bytes:
        """Remove the first `size` bytes, or what there is, and return them."""
        taken = b""
        while self._blocks and len(taken) < size:
            first = self._blocks[0]
            end = self._begin + size - len(taken)
            taken += first[self._begin : end]
            if end < len(first):
                self._begin = end
            else:
                self._blocks.popleft()
                self._begin = 0
        self.size -= len(taken)
        return taken


class Playout:
    """The queue towards Core. Lead and messages are at least one frame.

    `counts` are the call's; `audit` measures what leaves.
    """

    def __init__(self, pace: Pace, counts: CallCounts, meter: Meter | None = None) -> None:
        self.counts = counts
        self.audit = PlayoutAudit(counts, meter or Meter())
        self._lead = max(pace.lead, FRAME_SECONDS)
        longest = min(max(pace.message, FRAME_SECONDS), self._lead)
        self._longest = int((longest + _EPSILON) / FRAME_SECONDS) * FRAME_BYTES
        self._messages: deque[ToCore] = deque(maxlen=_MOST_QUEUED_MESSAGES)
        self._audio = PcmQueue()
        self.queued = 0.0  # seconds of audio queued since the call began, without what a barge-in took back
        self.changed = False  # something has been queued or taken back since `take` was asked last
        self.due = inf  # when `take` will have something, unless `changed`
        self._played_at = -inf  # when the caller will have heard all that Core was given

    def post(self, message: ToCore) -> None:
        """Queue a message that is not audio; it goes before any audio."""
        self.counts.messages_dropped += len(self._messages) == _MOST_QUEUED_MESSAGES
        self._messages.append(message)
        self.changed = True
        self.counts.messages_peak = max(self.counts.messages_peak, len(self._messages))

    def push(self, pcm: bytes, reply: str | None = None) -> float:
        """Queue agent audio of any length; it leaves in whole frames. Returns the seconds dropped for lack of room.

        `reply` is what it is a part of; None: of the same as before.
        """
        room = _MOST_QUEUED_BYTES - self._audio.size
        kept = pcm[:room] if len(pcm) > room else pcm
        self._audio.append(kept)
        self.changed = True
        self.queued += len(kept) / BYTES_PER_SECOND
        self.audit.queued(len(kept), reply)
        self.counts.downstream_peak_seconds = max(
            self.counts.downstream_peak_seconds, self._audio.size / BYTES_PER_SECOND
        )
        return (len(pcm) - len(kept)) / BYTES_PER_SECOND

    def end_reply(self) -> None:
        """Fill the last frame with silence, so that no part of the reply stays behind."""
        if silence := -self._audio.size % FRAME_BYTES:
            self.push(bytes(silence))

    def barge_in(self, now: float, *, tell: bool) -> float:
        """The caller cuts the agent off; with `tell` Core hears of it.

        Returns how many of the seconds queued so far the caller has heard.
        """
        self.audit.barge_in(now, announced=tell)
        heard = self.heard(now)
        self.clear(now)
        if tell:
            self.counts.interruptions += 1
            self.post(Interruption())
        return heard

    def clear(self, now: float) -> None:
        """Forget the audio that waits, and what Core has been given and is about to forget too."""
        self.queued = self.heard(now)
        self._audio = PcmQueue()
        self.changed = True
        self.audit.emptied()
        self._played_at = min(self._played_at, now)

    def take(self, now: float) -> ToCore | None:
        """Return the next message to send now, or None: then `due` says when there will be one.

        A message that is not audio stays until `sent` confirms it, so that the end of the call cannot lose it.
        """
        self.changed = False
        if self._messages:
            return self._messages[0]
        size = min(self._audio.size // FRAME_BYTES * FRAME_BYTES, self._longest)
        self.due = self._played_at + size / BYTES_PER_SECOND - self._lead if size else inf
        if now + _EPSILON < self.due:
            return None
        pcm = self._audio.take(size)
        self.audit.taken(size)
        self._played_at = max(self._played_at, now) + size / BYTES_PER_SECOND
        return PlayoutAudio(pcm)

    def after(self, message: ToCore, now: float) -> ToCore | None:
        """Confirm that a taken message has been sent; return the next, as `take` does."""
        self.sent(message, now)
        return self.take(now)

    def sent(self, message: ToCore, now: float) -> None:
        """Confirm that a taken message has been sent."""
        self.audit.written(message, now)
        if self._messages and self._messages[0] is message:
            self._messages.popleft()

    def played_at(self, now: float) -> float:
        """When the caller will have heard all that has been queued so far."""
        return max(self._played_at, now) + self._audio.size / BYTES_PER_SECOND

    def ended_at(self, now: float) -> float:
        """As `played_at`, but in the past if the caller has heard it all already; -infinity if there was nothing."""
        return self.played_at(now) if self._audio.size else self._played_at

    def heard(self, now: float) -> float:
        """How many of the `queued` seconds the caller has heard by `now`."""
        return self.queued - (self.played_at(now) - now)

    def left_over(self) -> list[ToCore]:
        """Return the messages that were not sent. The audio is of no more use."""
        return list(self._messages)


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
        self.answers = AnswerTimes()
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
            if self.answers.spoke_at is None:
                self.answers.spoke_at = now
            self._counts.written_seconds += len(message.audio) / BYTES_PER_SECOND
            if self._answered_turn is not None:
                self.answers.add(now - self._answered_turn)
                self._meter.answered(now - self._answered_turn)
                self._answered_turn = None
        elif isinstance(message, Interruption) and self._stop_at is not None:
            self._meter.stopped(now - self._stop_at)
            self._stop_at = None
