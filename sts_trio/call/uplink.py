"""Caller audio on its way to the agent: straight through while a session is attached, else kept for a moment."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND, seconds
from sts_trio.errors import ProviderLost

if TYPE_CHECKING:
    from sts_trio.call.outcome import CallCounts
    from sts_trio.providers.events import AgentLink


class Uplink:
    """Sends in the order of arrival, whichever task sends.

    Without a session the newest `keep` seconds wait (one second before the first: no burst of stale speech); older
    audio is dropped and counted.
    """

    def __init__(self, counts: CallCounts, keep: float = 1.0) -> None:
        self._counts = counts
        self._room = round(keep * BYTES_PER_SECOND)
        self._waiting: deque[bytes] = deque()
        self._agent: AgentLink | None = None

    async def send(self, pcm: bytes) -> None:
        """Send a piece, or keep it. A session that breaks here is detached; its receiver learns the cause."""
        agent = self._agent
        if agent is None:
            self._keep(pcm)
            return
        try:
            await agent.send_audio(pcm)
        except ProviderLost:
            if self._agent is agent:  # another one may have been attached meanwhile
                self._agent = None
            self._keep(pcm)
        else:
            self._counts.upstream_seconds += seconds(len(pcm))

    async def attach(self, agent: AgentLink) -> None:
        """Send what waits, then let `send` go straight through.

        No checkpoint lies between finding nothing left and attaching, so audio cannot overtake audio.

        Raises:
            ProviderLost: the session broke; what was not sent is kept.
        """
        while self._waiting:
            pcm = self._waiting.popleft()
            self._room += len(pcm)
            try:
                await agent.send_audio(pcm)
            except ProviderLost:
                self._room -= len(pcm)
                self._waiting.appendleft(pcm)
                raise
            self._counts.upstream_seconds += seconds(len(pcm))
        self._agent = agent

    def detach(self) -> None:
        """The session is gone: keep what comes."""
        self._agent = None

    def _keep(self, pcm: bytes) -> None:
        self._waiting.append(pcm)
        self._room -= len(pcm)
        while self._room < 0:
            oldest = self._waiting.popleft()
            self._room += len(oldest)
            self._counts.upstream_dropped_seconds += seconds(len(oldest))
