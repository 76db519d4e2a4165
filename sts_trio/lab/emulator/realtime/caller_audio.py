"""What a session of the Realtime protocol hears of the caller: audio in, turns out. Nothing waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sts_trio.lab.emulator.chat import KEPT_SECONDS
from sts_trio.lab.emulator.turns import Speaking, Turn, TurnDetector
from sts_trio.lab.sample_formats import PCM, to_pcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.lab.emulator.realtime.session import FlatSession, Session

SPEECH_MS = 100  # of loud sound, until the service says that the caller speaks


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """The caller has begun to speak; `item` is the id that their turn will have."""

    item: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The caller has stopped. Without a `turn` it was too short to be speech: nothing to answer."""

    item: str
    at_ms: int
    turn: Turn | None


class CallerAudio:
    """`audio` is what came, in linear PCM at `rate`, the newest `KEPT_SECONDS`; `heard_bytes` counts all of it.

    `early_bytes` came before the session was set up, and were not understood. `onsets`: how often speech began.
    """

    def __init__(self, new_item: Callable[[], str]) -> None:
        self.audio = bytearray()
        self.heard_bytes = 0
        self.early_bytes = 0
        self.onsets = 0
        self.rate = 0
        self._new_item = new_item
        self._kind: str | None = None
        self._detector: TurnDetector | None = None
        self._item: str | None = None  # of the turn that is under way

    def set_up(self, session: Session | FlatSession) -> None:
        """Listen in the way that a session wants."""
        format_, detection = session.audio.input.format, session.detection
        self._kind = format_.type
        self.rate = (format_.rate or 24_000) if format_.type == PCM else 8000
        if detection is None:
            self._detector = None
        elif self._detector is None:
            self._detector = TurnDetector(self.rate, detection.silence_duration_ms)

    def hear(self, data: bytes) -> list[SpeechBegan | SpeechEnded]:
        """Take caller audio in the session's format; return where speech began and ended in it."""
        if self._kind is None:
            self.early_bytes += len(data)
            return []
        pcm = to_pcm(data, self._kind)
        self._keep(pcm)
        if self._detector is None:
            return []
        before = self._detector.onsets
        events = self._detector.feed(np.frombuffer(pcm, "<i2"))
        self.onsets += self._detector.onsets - before
        told = [found for event in events if (found := self._follow(event)) is not None]
        if self._item is not None and not self._detector.in_turn:
            told.append(self._over(self._now_ms, None))
        return told

    def _keep(self, pcm: bytes) -> None:
        self.heard_bytes += len(pcm)
        self.audio += pcm
        a_second = 2 * self.rate
        if len(self.audio) > (KEPT_SECONDS + 10) * a_second:  # not on each frame: it moves what is kept
            del self.audio[: -KEPT_SECONDS * a_second]

    @property
    def _now_ms(self) -> int:
        return self.heard_bytes * 1000 // (2 * self.rate)

    def _follow(self, event: Speaking | Turn) -> SpeechBegan | SpeechEnded | None:
        if isinstance(event, Turn):
            return self._over(event.end_ms, event)
        if self._item is not None or event.run_ms < SPEECH_MS:
            return None
        self._item = self._new_item()
        return SpeechBegan(self._item, max(self._now_ms - event.turn_ms, 0))

    def _over(self, at_ms: int, turn: Turn | None) -> SpeechEnded:
        item, self._item = self._item or self._new_item(), None
        return SpeechEnded(item, at_ms, turn)
