"""The sample formats of the Realtime protocol: linear PCM and G.711 (ITU-T G.711), a byte a sample. Pure.

G.711 is the standard library's `audioop`, or audioop-lts, which it has become.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass, field
from functools import cache

from sts_trio.audio.pcm import RATE

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

PCM, PCMU, PCMA = "audio/pcm", "audio/pcmu", "audio/pcma"
PCM_RATES = (8000, 16_000, 24_000, 48_000)


def to_pcm(data: bytes, kind: str) -> bytes:
    """Return s16le."""
    if kind == PCM:
        return data
    return audioop.ulaw2lin(data, 2) if kind == PCMU else audioop.alaw2lin(data, 2)


def from_pcm(pcm: bytes, kind: str) -> bytes:
    """Return s16le in a session's format."""
    if kind == PCM:
        return pcm
    return audioop.lin2ulaw(pcm, 2) if kind == PCMU else audioop.lin2alaw(pcm, 2)


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """How a sample is written, in `width` bytes. `levels`: what each value of its last byte stands for, 16 bit."""

    rate: int
    width: int
    levels: tuple[int, ...] = field(repr=False)

    def write(self, level: int) -> bytes:
        """A sample, as near to `level` as the format allows."""
        if self.width == 2:
            return struct.pack("<h", level)
        return bytes((min(range(256), key=lambda code: abs(self.levels[code] - level)),))


@cache
def find_format(kind: str, rate: int | None) -> SampleFormat | None:
    """The format that a session asks for, by its `type` and `rate` in Hz; None if there is no such format here."""
    if kind in (PCMU, PCMA):
        return SampleFormat(RATE, 1, struct.unpack("<256h", to_pcm(bytes(range(256)), kind)))
    if kind != PCM or (rate or 24_000) not in PCM_RATES:
        return None
    return SampleFormat(rate or 24_000, 2, tuple(value - (value & 0x80) * 2 << 8 for value in range(256)))
