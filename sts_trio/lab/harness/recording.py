"""What was heard and said on the telephone, sample by sample. Pure: times are arguments, in seconds of the call.

`Ear` models Core's playout (docs/protocols/core.md 3): first in, first out, at real time from arrival, emptied by
`interruption`. So the line that the caller heard is known exactly, including what never reached them.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass

import numpy as np

from sts_trio.audio.pcm import FRAME_SECONDS, RATE, SAMPLE_BYTES, seconds

# A sample this loud is sound, not line noise: -50 dBFS.
AUDIBLE = 100
# Pauses between words are shorter: what follows within it belongs to the same stretch of speech.
PAUSE_SECONDS = 0.5
# How much unplayed audio a call may pile up: 120 s, 1.9 MB. More is a fault, no speech: dropped and counted.
MAX_QUEUE_SECONDS = 120.0

_FRAME = round(RATE * FRAME_SECONDS)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something the caller said: from `at` (seconds), and whether it was meant to cut the agent short."""

    at: float
    pcm: bytes
    name: str
    over: bool = False


@dataclass(frozen=True, slots=True)
class Arrival:
    """An audio message: when it came, and its size in bytes."""

    at: float
    size: int


@dataclass(frozen=True, slots=True)
class Cut:
    """An `interruption`: when it came, the bytes it kept from being heard, how many arrivals were before it."""

    at: float
    dropped: int
    arrivals: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A call as the caller's telephone had it. Both lines are s16le, 8000 Hz, mono, and begin at 0 s.

    `underruns` counts the holes in the agent's speech that came from audio arriving too late; `overflow` the bytes
    that were dropped because too much was queued.
    """

    caller: bytes
    agent: bytes
    utterances: tuple[Utterance, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    cuts: tuple[Cut, ...] = ()
    underruns: int = 0
    overflow: int = 0

    @property
    def seconds(self) -> float:
        """The length of the longer line."""
        return max(seconds(len(self.caller)), seconds(len(self.agent)))


class Ear:
    """The telephone's ear: audio goes in as it arrives, the line that is heard comes out."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._stretches: list[tuple[float, float]] = []  # audible speech: from, to; the last may lie ahead
        self.arrivals: list[Arrival] = []
        self.cuts: list[Cut] = []
        self.underruns = 0
        self.overflow = 0

    @property
    def line(self) -> bytes:
        """Everything placed so far; beyond the present moment it is still queued."""
        return bytes(self._line)

    def audio(self, at: float, pcm: bytes) -> bool:
        """Queue whole samples that arrive at `at`. True if a stretch of the agent's speech begins with them."""
        self.arrivals.append(Arrival(at, len(pcm)))
        gap = _byte(at) - len(self._line)
        if gap > 0:
            in_speech = bool(self._stretches) and seconds(len(self._line)) <= self._stretches[-1][1] + 0.001
            self.underruns += in_speech and seconds(gap) < PAUSE_SECONDS
            self._line += bytes(gap)
        elif seconds(-gap) + seconds(len(pcm)) > MAX_QUEUE_SECONDS:
            self.overflow += len(pcm)
            return False
        start = seconds(len(self._line))
        self._line += pcm
        return self._note_speech(start, pcm)

    def _note_speech(self, start: float, pcm: bytes) -> bool:
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.int32)
        began = False
        for first in range(0, len(samples), _FRAME):
            if np.abs(samples[first : first + _FRAME]).max() < AUDIBLE:
                continue
            begin = start + first / RATE
            end = min(begin + FRAME_SECONDS, start + seconds(len(pcm)))
            if self._stretches and begin - self._stretches[-1][1] < PAUSE_SECONDS:
                self._stretches[-1] = (self._stretches[-1][0], end)
            else:
                self._stretches.append((begin, end))
                began = True
        return began

    def interruption(self, at: float) -> Cut:
        """Empty the queue at `at`: what has not been played is not heard."""
        cut = Cut(at, self._stop(at), len(self.arrivals))
        self.cuts.append(cut)
        return cut

    def hang_up(self, at: float) -> None:
        """End the line at `at`."""
        self._stop(at)

    def _stop(self, at: float) -> int:
        dropped = max(0, len(self._line) - _byte(at))
        if dropped:
            del self._line[-dropped:]
            self._stretches = [(begin, min(end, at)) for begin, end in self._stretches if begin < at]
        return dropped

    def heard_for(self, now: float) -> float:
        """For how long the agent has been speaking, in seconds; 0 while it is silent."""
        return next((now - begin for begin, end in reversed(self._stretches) if begin <= now < end), 0.0)

    def quiet_for(self, now: float) -> float:
        """For how long nothing of the agent has been heard; negative while speech is being played or queued."""
        return now - (self._stretches[-1][1] if self._stretches else 0.0)


def _byte(at: float) -> int:
    return round(at * RATE) * SAMPLE_BYTES


def stereo(recording: Recording) -> np.ndarray[tuple[int, int], np.dtype[np.int16]]:
    """Both lines side by side, the shorter one filled up with silence: caller left, agent right."""
    both = np.zeros((max(len(recording.caller), len(recording.agent)) // SAMPLE_BYTES, 2), dtype="<i2")
    for side, line in enumerate((recording.caller, recording.agent)):
        samples = np.frombuffer(line, dtype="<i2")
        both[: len(samples), side] = samples
    return both


def stereo_wav(recording: Recording) -> bytes:
    """Make a WAV file of the call: 8000 Hz, 16 bit, caller left, agent right."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(SAMPLE_BYTES)
        file.setframerate(RATE)
        file.writeframes(stereo(recording).tobytes())
    return out.getvalue()
