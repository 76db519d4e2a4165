"""What a caller hears when the agent has failed for good, instead of dead air: a WAV file, or the network's tone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sts_trio.audio.pcm import BYTES_PER_SECOND, RATE
from sts_trio.audio.resample import TelephoneResampler
from sts_trio.audio.wav import WavError, parse_wav
from sts_trio.errors import ConfigError

TONE = "tone"
_TONE_PERIODS = 8  # four seconds
_LONGEST_SECONDS = 30

# The congestion tone that nearly every caller knows: 425 Hz, a quarter of a second on, a quarter off (ITU-T E.180).
_CONGESTION_HERTZ = 425
_CONGESTION_SECONDS = 0.25
_LEVEL = 0.1  # of full scale: -20 dBFS, what exchanges send is -10 dBm0 and less
_EDGE_SECONDS = 0.005  # faded, so that nothing clicks


def load_fallback(choice: str) -> bytes:
    """Return telephone PCM: the WAV file `choice`, 30 s of it at most, or, for ``tone``, the network's congestion tone.

    Raises:
        ConfigError: the file cannot be read, or holds no audio that we understand.
    """
    if choice == TONE:
        return congestion_tone(_TONE_PERIODS)
    try:
        wav = parse_wav(Path(choice).read_bytes())
    except (OSError, WavError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigError([f"FALLBACK_WAV is {choice}, which cannot be used: {reason}"]) from exc
    resampler = TelephoneResampler()
    pcm = b"".join(resampler.feed(part) for part in wav.cut(1.0)) + resampler.flush()
    return pcm[: _LONGEST_SECONDS * BYTES_PER_SECOND]


def congestion_tone(periods: int) -> bytes:
    """Return `periods` of on and off, half a second each: 8000 Hz, s16le, mono."""
    on = np.arange(round(_CONGESTION_SECONDS * RATE))
    edge = np.minimum(1.0, np.minimum(on, on[::-1]) / (_EDGE_SECONDS * RATE))
    beep = np.rint(np.sin(2 * np.pi * _CONGESTION_HERTZ * on / RATE) * edge * _LEVEL * 32767).astype("<i2")
    return np.tile(np.concatenate([beep, np.zeros_like(beep)]), periods).tobytes()
