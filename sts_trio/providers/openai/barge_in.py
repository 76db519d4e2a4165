"""What of the caller's audio the service hears while the agent speaks, where callers are not to stop it easily. Pure.

A service stops its answer at the first sound that it takes for speech. So the caller's audio waits here while the agent
is heard, until they have spoken for long enough, or the agent has finished: then it is told, faster than it was said.
That asks nothing of the service, and loses nothing: what is said over a greeting that must be heard, xAI would drop,
and OpenAI might not answer (docs/protocols/realtime.md 7.2). Times in seconds.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND, is_loud, seconds
from sts_trio.providers.base import AgentAudio, AgentTurnEnd, UserInterruption

if TYPE_CHECKING:
    from sts_trio.providers.base import AgentEvent

_MOST_SECONDS = 30.0  # of audio that waits, the newest: 480 kB a call
_TRIM_SECONDS = 1.0  # what may be above that for a moment, so that not every frame moves it all
# What waited leaves a slice with each frame, or turn of the event loop: 1.2 ms of resampling at most, in which no other
# call has its turn. Half a minute is told within 0.6 s.
_SLICE_SECONDS = 1.0
_BEFORE_SECONDS = 0.3  # before the first loud frame of a word: it begins softly
_PAUSE_SECONDS = 0.4  # between two words of one who speaks on
_LINE_SECONDS = 0.2  # how long the voice that was given last is on its way to the caller
_GREETING_SECONDS = 0.5  # within so long of its session's beginning a greeting is asked for, if there is one
_GENERATION_SECONDS = 10.0  # for a greeting that was asked for to begin, and for each next piece of it to come


class BargeInGate:
    """Shut while the agent is heard; `least` seconds of speech open it, infinity: none do.

    A greeting that is `protected` is heard to its end all the same. Until `deadline` nothing is due; then `release`.
    """

    def __init__(self, least: float, now: float, *, protected: bool) -> None:
        self._least = least
        self._held = bytearray()
        self._speech_at: int | None = None  # where in that the word began that is being said
        self._spoken = 0.0  # of it, without its pauses
        self._loud_at = -inf
        self._anything_said = False  # in what is held
        self._telling = False  # what is held, which nothing bars any more
        self._open = False  # they speak, and have done so for long enough
        self._plays_until = -inf
        # The greeting is over at the latest by then, whatever becomes of it; -inf: it is not waited for.
        self._greeting_by = now + _GREETING_SECONDS if protected else -inf
        self._asked = self._generated = False  # it was asked for; all of it has come

    @property
    def deadline(self) -> float:
        """When what is held is to be told, if nothing else happens before."""
        if self._telling:
            return -inf
        if self._greeting_by > -inf:
            return self._greeting_by
        return self._plays_until + _LINE_SECONDS if self._plays_until > -inf and self._least > 0 else inf

    # The agent.

    def greeting_asked(self, now: float) -> None:
        """The agent was told to say something; the first time that is the greeting."""
        if self._greeting_by > -inf and not self._asked:
            self._asked = True
            self._greeting_by = now + _GENERATION_SECONDS

    def agent(self, event: AgentEvent, now: float) -> None:
        """Follow what the agent says."""
        match event:
            case AgentAudio(wav=wav):
                self._plays_until = max(self._plays_until, now) + wav.seconds
                if self._asked and not self._generated and self._greeting_by > -inf:
                    self._greeting_by = self._plays_until + _GENERATION_SECONDS
            case AgentTurnEnd() if self._asked and not self._generated and self._greeting_by > -inf:
                self._generated = True
                self._greeting_by = max(self._plays_until + _LINE_SECONDS, now)
            case UserInterruption():
                self._plays_until = -inf
            case _:
                pass

    def stopped(self) -> None:
        """A key has stopped the agent, and a greeting with it."""
        self._plays_until = self._greeting_by = -inf

    # The caller.

    def feed(self, pcm: bytes, now: float, *, in_turn: bool) -> bytes:
        """Take caller audio; return what the service is to hear now. `in_turn`: it is listening to them already."""
        greeting = now < self._greeting_by
        free = not greeting and (in_turn or self._least <= 0 or now >= self._plays_until + _LINE_SECONDS)
        if self._telling or (free and self._held):
            self._held += pcm
            return self._tell(0) if in_turn and not self._telling else self.release(now)
        if free:
            return pcm
        loud = is_loud(pcm)
        if not greeting and self._open:
            if loud:
                self._loud_at = now
            self._open = now < self._loud_at + _PAUSE_SECONDS
            return pcm
        self._hold(pcm, now, loud=loud)
        if greeting or self._spoken < self._least:
            return b""
        self._open = True
        return self._tell(self._speech_at or 0)

    def release(self, now: float) -> bytes:
        """Return the next of what was held, if nothing bars it any more: the end of it, if nobody has spoken."""
        if self._telling:
            return self._slice()
        if now < self.deadline < inf:
            return b""
        self._greeting_by = -inf
        if now >= self._plays_until + _LINE_SECONDS:
            self._plays_until = -inf
        return self._tell(0 if self._anything_said else max(len(self._held) - _bytes(_BEFORE_SECONDS), 0))

    def _hold(self, pcm: bytes, now: float, *, loud: bool) -> None:
        if loud:
            if self._speech_at is None or now > self._loud_at + _PAUSE_SECONDS:
                self._speech_at = max(len(self._held) - _bytes(_BEFORE_SECONDS), 0)
                self._spoken = 0.0
            self._spoken += seconds(len(pcm))
            self._loud_at, self._anything_said = now, True
        self._held += pcm
        if len(self._held) > _bytes(_MOST_SECONDS + _TRIM_SECONDS):
            gone = len(self._held) - _bytes(_MOST_SECONDS)
            del self._held[:gone]
            self._speech_at = None if self._speech_at is None else max(self._speech_at - gone, 0)

    def _tell(self, start: int) -> bytes:
        """Begin to tell what is held from there on; what is before it is not told."""
        del self._held[:start]
        self._speech_at, self._spoken, self._anything_said = None, 0.0, False
        return self._slice()

    def _slice(self) -> bytes:
        size = _bytes(_SLICE_SECONDS)
        told = bytes(self._held[:size])
        del self._held[:size]
        self._telling = bool(self._held)
        return told


def _bytes(seconds_: float) -> int:
    return int(seconds_ * BYTES_PER_SECOND)
