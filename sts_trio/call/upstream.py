"""Caller audio on its way to the agent: straight through while a session is attached, else kept for a moment."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND, FRAME_BYTES, seconds
from sts_trio.errors import ProviderLost

if TYPE_CHECKING:
    from sts_trio.call.outcome import CallCounts
    from sts_trio.providers.base import AgentLink


_KEPT_BEFORE = 1 * BYTES_PER_SECOND
_KEPT_BETWEEN = 5 * BYTES_PER_SECOND
# What waits leaves in messages of up to 200 ms. With one for each piece, which costs a turn of the event loop, a loop
# whose turns take longer than a piece would never catch up: the caller would be unheard for as long as it is busy.
_MOST_JOINED = 10
_MOST_DOUBTFUL = _KEPT_BETWEEN // FRAME_BYTES  # pieces; none is longer than a frame


class UpstreamBuffer:
    """Sends in the order of arrival, whichever task sends.

    Without a session the newest audio waits, and older audio is dropped and counted: one second before the first
    session (no burst of stale speech), five between two, since then the caller is in the middle of a conversation.
    What is sent to a session that may be dead already is kept as well, as much of it, and sent again should it be.
    """

    def __init__(self, counts: CallCounts) -> None:
        self._counts = counts
        self._room = _KEPT_BEFORE
        self._waiting: deque[bytes] = deque()
        self._doubtful: deque[bytes] = deque()  # sent to the session in use, which has not shown since that it lives
        self._agent: AgentLink | None = None
        self._begun = False

    async def send(self, pcm: bytes) -> None:
        """Send a piece, or keep it. A session that breaks here is detached; its receiver learns the cause."""
        while (agent := self._agent) is not None:
            try:
                await agent.send_audio(pcm)
            except ProviderLost:
                self.detach(agent)  # and if another has been attached meanwhile, it goes there
            else:
                if agent.ping_overdue or self._doubtful:
                    self._doubt(agent, pcm)
                else:
                    self._counts.upstream_seconds += seconds(len(pcm))
                return
        self._keep(pcm)

    async def attach(self, agent: AgentLink) -> None:
        """Send what waits, then let `send` go straight through.

        No checkpoint lies between finding nothing left and attaching, so audio cannot overtake audio.

        Raises:
            ProviderLost: the session broke; what was not sent is kept.
        """
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_JOINED))]
            pcm = b"".join(taken)
            self._room += len(pcm)
            try:
                await agent.send_audio(pcm)
            except ProviderLost:
                self._room -= len(pcm)
                self._waiting.extendleft(reversed(taken))
                raise
            self._counts.upstream_seconds += seconds(len(pcm))
        self._agent = agent
        self._believe()
        if not self._begun:
            self._begun = True
            self._room += _KEPT_BETWEEN - _KEPT_BEFORE

    def detach(self, agent: AgentLink) -> None:
        """This session is gone: keep what comes, unless another has taken its place."""
        if self._agent is not agent:
            return
        self._agent = None
        if agent.ping_overdue:
            for pcm in self._doubtful:
                self._keep(pcm)
            self._doubtful.clear()
        self._believe()

    def _doubt(self, agent: AgentLink, pcm: bytes) -> None:
        """Count as sent what cannot be sent again any more; of the rest it is not known yet."""
        if agent.ping_overdue and self._agent is agent:
            self._doubtful.append(pcm)
            pcm = self._doubtful.popleft() if len(self._doubtful) > _MOST_DOUBTFUL else b""
        elif not agent.ping_overdue:
            self._believe()
        self._counts.upstream_seconds += seconds(len(pcm))

    def _believe(self) -> None:
        """What was in doubt has been heard, as far as anybody knows."""
        self._counts.upstream_seconds += sum(seconds(len(pcm)) for pcm in self._doubtful)
        self._doubtful.clear()

    def _keep(self, pcm: bytes) -> None:
        self._waiting.append(pcm)
        self._room -= len(pcm)
        while self._room < 0:
            oldest = self._waiting.popleft()
            self._room += len(oldest)
            self._counts.upstream_dropped_seconds += seconds(len(oldest))
        waiting = seconds((_KEPT_BETWEEN if self._begun else _KEPT_BEFORE) - self._room)
        self._counts.upstream_peak_seconds = max(self._counts.upstream_peak_seconds, waiting)
