"""End of turn, heard from the caller's audio. Time is counted in samples, so it runs as fast as the audio comes.

As with EVI, a turn ends after some silence *in the audio*: who stops sending is never answered.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW_MS = 10
SPEECH_RMS = 32768 * 10 ** (-45 / 20)  # a window above -45 dBFS is speech; telephone line noise is near -60
ONSET_WINDOWS = 3  # a click is shorter
MIN_SPEECH_WINDOWS = 10  # less in all is a knock, not an utterance
PADDING_WINDOWS = 10  # quiet kept on either side of an utterance: soft consonants are below the threshold
BREATH_WINDOWS = 30  # a longer gap interrupts "speaking without a stop"
MAX_TURN_WINDOWS = 3000  # 30 s: bounds memory; a longer speech is cut into several turns


@dataclass(frozen=True, slots=True)
class Speaking:
    """The caller is speaking: without a stop for `run_ms`, in this turn for `turn_ms` so far."""

    run_ms: int
    turn_ms: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance. Times in ms since the stream began, without the padding that `samples` has."""

    begin_ms: int
    end_ms: int
    samples: NDArray[np.int16]


class TurnDetector:
    """Finds utterances in a mono stream at `rate` Hz. How it is cut into pieces makes no difference to the turns."""

    def __init__(self, rate: int, end_of_turn_ms: int) -> None:
        self._window = max(rate * WINDOW_MS // 1000, 1)
        self._rate = rate
        self._end_windows = max(end_of_turn_ms // WINDOW_MS, 1)
        self._rest: NDArray[np.int16] = np.empty(0, np.int16)
        self._count = 0  # windows heard in all
        self.onsets = 0  # how often the caller began to speak; a knock counts too
        self._idle()

    def _idle(self) -> None:
        # Between turns only what the padding needs is kept; in a turn, all of it.
        self._kept: deque[NDArray[np.int16]] = deque(maxlen=PADDING_WINDOWS + ONSET_WINDOWS)
        self._turn: list[NDArray[np.int16]] | None = None
        self._loud_in_row = 0

    @property
    def in_turn(self) -> bool:
        """Whether an utterance is under way, or what may become one."""
        return self._turn is not None

    def feed(self, samples: NDArray[np.int16]) -> list[Speaking | Turn]:
        """Take the next samples; return the turns that ended, then what the caller is doing if speaking."""
        samples = np.concatenate((self._rest, samples))
        whole = samples.size // self._window * self._window
        self._rest = samples[whole:].copy()
        windows = samples[:whole].reshape(-1, self._window)
        loud = np.sqrt(np.mean(windows.astype(np.float64) ** 2, axis=1)) > SPEECH_RMS
        events: list[Speaking | Turn] = []
        for window, is_loud in zip(windows, loud, strict=True):
            self._count += 1
            if turn := self._step(window.copy(), bool(is_loud)):
                events.append(turn)
        if self._turn is not None and whole and loud[-1]:
            run = self._last_loud - self._run_from
            events.append(Speaking(self._ms(run), self._ms(self._last_loud - self._begin)))
        return events

    def _step(self, window: NDArray[np.int16], loud: bool) -> Turn | None:
        if self._turn is None:
            self._kept.append(window)
            self._loud_in_row = self._loud_in_row + 1 if loud else 0
            if self._loud_in_row == ONSET_WINDOWS:
                self.onsets += 1
                self._turn = list(self._kept)
                self._lead = len(self._kept) - ONSET_WINDOWS
                self._begin = self._run_from = self._count - ONSET_WINDOWS
                self._last_loud = self._count
                self._loud_count = ONSET_WINDOWS
            return None
        self._turn.append(window)
        if loud:
            if self._count - 1 - self._last_loud > BREATH_WINDOWS:
                self._run_from = self._count - 1
            self._last_loud = self._count
            self._loud_count += 1
        if self._count - self._last_loud < self._end_windows and len(self._turn) < MAX_TURN_WINDOWS:
            return None
        return self._finish(self._turn)

    def _finish(self, windows: list[NDArray[np.int16]]) -> Turn | None:
        kept = self._lead + (self._last_loud - self._begin) + PADDING_WINDOWS
        turn = Turn(self._ms(self._begin), self._ms(self._last_loud), np.concatenate(windows[:kept]))
        spoken = self._loud_count
        self._idle()
        return turn if spoken >= MIN_SPEECH_WINDOWS else None

    def _ms(self, windows: int) -> int:
        return windows * self._window * 1000 // self._rate
