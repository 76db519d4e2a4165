"""Tones of the telephone network. Pure."""

from __future__ import annotations

import numpy as np

from sts_trio.audio.pcm import RATE

# The congestion tone that nearly every caller knows: 425 Hz, a quarter of a second on, a quarter off (ITU-T E.180).
_CONGESTION_HERTZ = 425
_CONGESTION_SECONDS = 0.25
_LEVEL = 0.1  # of full scale: -20 dBFS, what exchanges send is -10 dBm0 and less
_EDGE_SECONDS = 0.005  # faded, so that nothing clicks


def congestion_tone(periods: int) -> bytes:
    """Return `periods` of on and off, half a second each: 8000 Hz, s16le, mono."""
    on = np.arange(round(_CONGESTION_SECONDS * RATE))
    edge = np.minimum(1.0, np.minimum(on, on[::-1]) / (_EDGE_SECONDS * RATE))
    beep = np.rint(np.sin(2 * np.pi * _CONGESTION_HERTZ * on / RATE) * edge * _LEVEL * 32767).astype("<i2")
    return np.tile(np.concatenate([beep, np.zeros_like(beep)]), periods).tobytes()
