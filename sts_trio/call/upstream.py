"""Caller audio on its way to the agent: whole samples, in frames, no faster than real time.

It goes straight through while a session is attached, and is kept for a moment while none is.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Protocol

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, is_loud, pieces, seconds
from sts_trio.call.actions import LogWarning, SendAudio
from sts_trio.errors import ProviderLost

if TYPE_CHECKING:
    from sts_trio.call.actions import Actions
    from sts_trio.call.meter import CallCounts


# Clocks differ, and a resampler on the way may be a little off; nobody speaks 5 % faster than time for hours.
_RATE = 1.05
# A stall of TCP ends with a burst. A minute of it is no attack, and bounded; what a caller sends all the time is.
BURST_SECONDS = 60.0
_BURST_BYTES = BURST_SECONDS * BYTES_PER_SECOND
# Every fifth frame: nobody says a word in less.
_LISTEN_SECONDS = 0.1


class RealTimeLimit:
    """Lets a caller's audio through in real time (a token bucket). Beyond a burst the newest is dropped.

    `excess_seconds` is how much that was. Dropping whole samples keeps the rest in phase.
    """

    def __init__(self, now: float) -> None:
        self.excess_seconds = 0.0
        self._room = _BURST_BYTES
        self._at = now

    def admit(self, pcm: bytes, now: float) -> bytes:
        """Return what of `pcm`, whole samples, may pass now: `pcm` itself if that is all of it."""
        room = min(_BURST_BYTES, self._room + (now - self._at) * _RATE * BYTES_PER_SECOND)
        self._at = now
        size = len(pcm)
        if size <= room:
            self._room = room - size
            return pcm
        admitted = int(room) & ~1
        self._room = 0.0
        self.excess_seconds += seconds(size - admitted)
        return pcm[:admitted]


class UpstreamFrames:
    """Takes what Core sends as it comes, any number of bytes at any pace; returns whole samples in frames.

    Whether the caller is loud is looked at from time to time (with `listen`), and from `listen_from` on in each frame:
    it costs a little.
    """

    def __init__(self, counts: CallCounts, now: float, *, listen: bool = False) -> None:
        self.listen_from = inf
        self._listen_again = now if listen else inf
        self._counts = counts
        self._odd = b""  # an odd last byte, which waits for the rest of its sample
        self._rate = RealTimeLimit(now)
        self.loud_at = -inf  # when the caller was last loud, while it was listened to

    def feed(self, data: bytes, now: float) -> Actions:
        """Return the pieces to send."""
        if self._odd or len(data) & 1:
            data = self._odd + data
            whole = len(data) & ~1
            data, self._odd = data[:whole], data[whole:]
        pcm = self._rate.admit(data, now)
        if now >= self.listen_from or now >= self._listen_again:
            self._listen(pcm, now)
        if pcm is not data:  # some of it came too fast
            return (*self._too_fast(), *(SendAudio(piece) for piece in pieces(pcm)))
        if 0 < len(pcm) <= FRAME_BYTES:
            return (SendAudio(pcm),)
        return tuple(SendAudio(piece) for piece in pieces(pcm))

    def _listen(self, pcm: bytes, now: float) -> None:
        if self._listen_again < inf:
            self._listen_again = now + _LISTEN_SECONDS
        if is_loud(pcm):
            self.loud_at = now

    def _too_fast(self) -> Actions:
        told = self._counts.upstream_excess_seconds > 0
        self._counts.upstream_excess_seconds = self._rate.excess_seconds
        return () if told else (LogWarning("Core sends audio faster than real time; what is too much is dropped"),)


_KEPT_BEFORE = 1 * BYTES_PER_SECOND
_KEPT_BETWEEN = 5 * BYTES_PER_SECOND
# What waits leaves in messages of up to 200 ms. With one for each piece, which costs a turn of the event loop, a loop
# whose turns take longer than a piece would never catch up: the caller would be unheard for as long as it is busy.
_MOST_JOINED = 10
# Of what was sent this much is kept, and a whole turn while the caller speaks: a session that is lost then has heard
# what nobody will answer. The next is told it again. 16 kB a call, half a megabyte in a turn.
_KEPT_SENT = 50  # pieces: a second, in which a provider finds that somebody has begun to speak
_KEPT_TURN = 1500  # half a minute; of a longer turn the newest
_MOST_UNCONFIRMED = _KEPT_BETWEEN // FRAME_BYTES  # pieces; none is longer than a frame


class AudioSink(Protocol):
    """As much of an `AgentLink` as takes audio."""

    @property
    def ping_overdue(self) -> bool:
        """See `AgentLink.ping_overdue`."""
        ...

    async def send_audio(self, pcm: bytes) -> bool:
        """See `AgentLink.send_audio`."""
        ...


class UpstreamBuffer:
    """Sends in the order of arrival, whichever task sends.

    Without a session the newest audio waits, and older audio is dropped and counted: one second before the first
    session (no burst of stale speech), five between two, since then the caller is in the middle of a conversation.
    What is sent to a session that may be dead already is kept as well, as much of it, and sent again should it be.
    So is a turn of the caller (`keep`), for a session that is attached with `again`.
    """

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts
        self._room = _KEPT_BEFORE
        self._waiting: deque[bytes] = deque()
        self._unconfirmed: deque[bytes] = deque()  # sent to the session in use, which has not shown since that it lives
        self._sent: deque[bytes] = deque(maxlen=_KEPT_SENT)  # what left last
        self._again: deque[bytes] = deque()  # what is to be sent once more, before what waits
        self._agent: AudioSink | None = None
        self._begun = False

    def keep(self, *, turn: bool) -> None:
        """Keep what is sent from now on, with the second before; without `turn` only ever the last second."""
        self._sent = deque(self._sent, maxlen=_KEPT_TURN if turn else _KEPT_SENT)

    async def send(self, pcm: bytes) -> None:
        """Send a piece, or keep it. A session that breaks here is detached; its receiver learns the cause."""
        while (agent := self._agent) is not None:
            try:
                overdue = await agent.send_audio(pcm)
            except ProviderLost:
                self.detach(agent)  # and if another has been attached meanwhile, it goes there
            else:
                self._sent.append(pcm)
                if overdue or self._unconfirmed:
                    self._hold_unconfirmed(agent, pcm)
                else:
                    self._counts.upstream_seconds += len(pcm) / BYTES_PER_SECOND
                return
        self._keep(pcm)

    async def attach(self, agent: AudioSink, *, again: bool = False) -> None:
        """Send what waits, then let `send` go straight through. `again`: before it what was kept of the caller's turn.

        No checkpoint lies between finding nothing left and attaching, so audio cannot overtake audio.

        Raises:
            ProviderLost: the session broke; what was not sent is kept.
        """
        if again:
            self._again.extendleft(reversed(self._sent))
            self._sent.clear()
        while self._again:
            pcm = await self._send_joined(agent, self._again)
            self._counts.upstream_again_seconds += seconds(len(pcm))
        while self._waiting:
            pcm = await self._send_joined(agent, self._waiting)
            self._counts.upstream_seconds += seconds(len(pcm))
        self._agent = agent
        self._confirm()
        if not self._begun:
            self._begun = True
            self._room += _KEPT_BETWEEN - _KEPT_BEFORE

    async def _send_joined(self, agent: AudioSink, queue: deque[bytes]) -> bytes:
        """Send the first of a queue in one message; they stay in it if the session breaks."""
        taken = [queue.popleft() for _ in range(min(len(queue), _MOST_JOINED))]
        pcm = b"".join(taken)
        freed = len(pcm) if queue is self._waiting else 0
        self._room += freed
        try:
            await agent.send_audio(pcm)
        except ProviderLost:
            self._room -= freed
            queue.extendleft(reversed(taken))
            raise
        self._sent.extend(taken)
        return pcm

    def detach(self, agent: AudioSink) -> None:
        """This session is gone: keep what comes, unless another has taken its place."""
        if self._agent is not agent:
            return
        self._agent = None
        if agent.ping_overdue:
            for pcm in self._unconfirmed:
                self._keep(pcm)
                if self._sent:
                    self._sent.pop()
            self._unconfirmed.clear()
        self._confirm()

    def _hold_unconfirmed(self, agent: AudioSink, pcm: bytes) -> None:
        """While a ping is overdue keep the last 5 s, to send them again; a piece counts as sent once it leaves them."""
        if agent.ping_overdue and self._agent is agent:
            self._unconfirmed.append(pcm)
            pcm = self._unconfirmed.popleft() if len(self._unconfirmed) > _MOST_UNCONFIRMED else b""
        elif not agent.ping_overdue:
            self._confirm()
        self._counts.upstream_seconds += seconds(len(pcm))

    def _confirm(self) -> None:
        """Count what is unconfirmed as sent: the session has shown that it lives, or another has taken its place."""
        self._counts.upstream_seconds += sum(seconds(len(pcm)) for pcm in self._unconfirmed)
        self._unconfirmed.clear()

    def _keep(self, pcm: bytes) -> None:
        self._waiting.append(pcm)
        self._room -= len(pcm)
        while self._room < 0:
            oldest = self._waiting.popleft()
            self._room += len(oldest)
            self._counts.upstream_dropped_seconds += seconds(len(oldest))
        waiting = seconds((_KEPT_BETWEEN if self._begun else _KEPT_BEFORE) - self._room)
        self._counts.upstream_peak_seconds = max(self._counts.upstream_peak_seconds, waiting)
