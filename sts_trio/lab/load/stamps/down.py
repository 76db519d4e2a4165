"""Stamps in the agent's audio that survive a resampler: each frame of 20 ms says its number, as levels. Pure.

A frame is five steps of 4 ms, each a constant level: first a very high one that nothing else reaches (the beginning),
then three digits to the base of 16 (the number, modulo 4096, 82 s), then a check digit that also holds the call's.
What is read is the mean of a step's middle, so that neither a filter's ringing beside a step nor plain decimation
matters, nor a shift, nor samples missing at the end of a chunk; every frame is found by its own beginning. The levels
are far enough apart for 8-bit codecs (mu-law). What a connector must not do is change the volume or filter out DC.

EVI's chunks are put together from pieces that have been encoded before: a WAV with the plain header of 44 bytes, in
base64. Pieces of base64 must begin at multiples of three bytes of the file, and 44 is two more than that; a step is a
multiple of three. So every piece begins one byte later than its step, and ends with the first byte of the next one; and
since all levels are multiples of 256, that byte is always 0. Chunks of the Realtime protocol are bare samples, and
small: they are made as they are needed.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sts_trio.audio.pcm import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sts_trio.lab.sample_formats import SampleFormat

FRAME_SAMPLES = RATE // 50
NUMBERS = 4096
FRAMES_PER_CHUNK = 10
CHUNK_SECONDS = 0.2
_BASE = 16
_STEP = FRAME_SAMPLES // 5
_BEGINNING = 28_160
_THRESHOLD = 20_500  # digits end at 12,544; rings beside a step add a tenth of its height
_SPACING, _MIDDLE = 1792, 8
_READ = np.arange(_STEP // 2 - 6, _STEP // 2 + 6)
_STEPS = np.arange(1, 5) * _STEP
_REACH = int(_STEPS[-1] + _READ[-1]) + 1
_BELOW = 4  # samples: what is no longer than this above the threshold is a click, and no beginning
# A step from below passes the threshold up to this much before or after its true place; frames are not closer.
_CLOSEST = FRAME_SAMPLES // 2


def _level(digit: int) -> int:
    return (digit - _MIDDLE) * _SPACING


def _digits(call: int, number: int) -> tuple[int, int, int, int]:
    high, middle, low = number // 256 % _BASE, number // 16 % _BASE, number % _BASE
    return high, middle, low, _check(call, high, middle, low)


def _check(call: int, high: int, middle: int, low: int) -> int:
    return (high + 3 * middle + 5 * low + 7 * call) % _BASE


class WavMaker:
    """Makes the base64 of WAV files of 200 ms, at 48 or 24 kHz, from ready pieces."""

    def __init__(self, rate: int) -> None:
        per_step = rate * _STEP // RATE
        size = per_step * 5 * FRAMES_PER_CHUNK * 2
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
        header = struct.pack("<4sI4s", b"RIFF", 36 + size, b"WAVE") + form + struct.pack("<4sI", b"data", size)
        self._header = _base64(header + b"\0")
        levels = [_level(digit) for digit in range(_BASE)] + [_BEGINNING]
        steps = [struct.pack("<h", level) * per_step for level in levels]
        self._pieces = [_base64(step[1:] + b"\0") for step in steps]
        self._ends = [_base64(step[1:]) for step in steps]

    def chunk(self, call: int, number: int) -> bytes:
        """The chunk whose frames are `number` and the nine that follow, as base64."""
        parts = [self._header]
        beginning, pieces = self._pieces[_BASE], self._pieces
        last = 0
        for each in range(number, number + FRAMES_PER_CHUNK):
            high, middle, low, last = _digits(call, each % NUMBERS)
            parts += (beginning, pieces[high], pieces[middle], pieces[low], pieces[last])
        parts[-1] = self._ends[last]
        return b"".join(parts)


class RawMaker:
    """Makes the base64 of 200 ms of bare samples, in any sample format."""

    def __init__(self, form: SampleFormat) -> None:
        per_step = form.rate * _STEP // RATE
        self._steps = [form.write(_level(digit)) * per_step for digit in range(_BASE)]
        self._beginning = form.write(_BEGINNING) * per_step

    def chunk(self, call: int, number: int) -> bytes:
        """See `WavMaker.chunk`."""
        parts: list[bytes] = []
        for each in range(number, number + FRAMES_PER_CHUNK):
            parts += (self._beginning, *(self._steps[digit] for digit in _digits(call, each % NUMBERS)))
        return _base64(b"".join(parts))


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


@dataclass(slots=True)
class Reader:
    """Finds the frames in one call's audio, 8 kHz, in messages of any size.

    `damaged` counts beginnings without a readable number behind them (another call's audio has another check digit),
    and messages that end within a sample.
    """

    call: int
    damaged: int = 0
    _kept: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    _kept_at: float = 0.0

    def read(self, pcm: bytes, now: float) -> list[tuple[int | None, float]]:
        """Return number (modulo `NUMBERS`) and arrival of each frame that is complete; None for one without a number.

        A frame has arrived when its beginning has.
        """
        if len(pcm) % 2:
            self.damaged += 1  # half a sample
            pcm = pcm[:-1]
        new = np.frombuffer(pcm, "<i2")
        kept = len(self._kept)
        samples = np.concatenate((self._kept, new)) if kept else new
        high = samples > _THRESHOLD
        begins = np.flatnonzero(high[1:] & ~high[:-1]) + 1
        if len(high) and high[0]:
            begins = np.concatenate(([0], begins))
        frames: list[tuple[int | None, float]] = []
        end, at = 0, -_CLOSEST
        complete = len(samples) - _REACH
        rows = [int(begin) for begin in begins if begin <= complete]
        means = _means(samples, rows)
        for begin, row in zip(rows, means, strict=True):
            if begin - at < _CLOSEST:  # a ring of the same step
                continue
            at = begin
            end = begin + _REACH
            high_, middle, low, check = row
            number: int | None = (high_ * _BASE + middle) * _BASE + low
            if min(row) < 0 or max(row) >= _BASE or _check(self.call, high_, middle, low) != check:
                self.damaged += 1
                number = None
            frames.append((number, self._kept_at if begin < kept else now))
        rest = begins[(begins > complete) & (begins - at >= _CLOSEST)]
        begin = int(rest[0]) if len(rest) else max(end, len(samples))
        self._kept_at = self._kept_at if begin < kept else now
        self._kept = samples[begin:].copy()
        return frames

    def forget(self) -> None:
        """After an interruption: what was begun will not be continued."""
        self._kept = np.empty(0, np.int16)


def _means(samples: NDArray[np.int16], begins: list[int]) -> list[list[int]]:
    if not begins:
        return []
    at = np.asarray(begins)[:, None, None] + _STEPS[:, None] + _READ
    digits = np.rint(samples[at].mean(axis=2) / _SPACING).astype(np.int64) + _MIDDLE
    listed: list[list[int]] = digits.tolist()
    return listed
