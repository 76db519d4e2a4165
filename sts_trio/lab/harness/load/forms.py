"""The forms of audio in the Realtime protocol: linear PCM, and G.711 (ITU-T G.711), a byte a sample. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from sts_trio.audio.pcm import RATE


def _from_mu_law(code: int) -> int:
    code ^= 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -size if code & 0x80 else size


def _from_a_law(code: int) -> int:
    code ^= 0x55
    exponent, size = code >> 4 & 7, ((code & 0x0F) << 4) + 8
    if exponent:
        size = size + 0x100 << exponent - 1
    return size if code & 0x80 else -size


@dataclass(frozen=True, slots=True)
class Form:
    """How a sample is written, in `width` bytes. `levels`: what each value of its last byte stands for, 16 bit."""

    rate: int
    width: int
    levels: tuple[int, ...] = field(repr=False)

    def write(self, level: int) -> bytes:
        """A sample, as near to `level` as the form allows."""
        if self.width == 2:
            return struct.pack("<h", level)
        return bytes((min(range(256), key=lambda code: abs(self.levels[code] - level)),))


_HIGH_BYTE = tuple(value - (value & 0x80) * 2 << 8 for value in range(256))
_LAWS = {
    "audio/pcmu": tuple(map(_from_mu_law, range(256))),
    "audio/pcma": tuple(map(_from_a_law, range(256))),
}


def find_form(kind: str, rate: int | None) -> Form | None:
    """The form that a session asks for, by its `type` and `rate`; None if we have no such form."""
    if kind in _LAWS:
        return Form(RATE, 1, _LAWS[kind])
    rate = rate or 24_000
    return Form(rate, 2, _HIGH_BYTE) if kind == "audio/pcm" and rate in (8000, 16_000, 24_000, 48_000) else None
