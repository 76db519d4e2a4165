"""Speech for a caller to say, from WAV files: 8000 Hz, 16 bit, mono, whatever the file has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import soxr

from sts_trio.audio.pcm import FRAME_SECONDS, RATE
from sts_trio.errors import StsError
from sts_trio.lab.harness.measures import sounds
from sts_trio.text import one_line

SAMPLE = Path(__file__).with_name("sample.wav")
# Silence this long parts two utterances; the pauses of ordinary speech are shorter.
BETWEEN_UTTERANCES = 1.0
# Kept before and after an utterance, so that its soft beginnings and ends are not lost.
_MARGIN = round(0.1 * RATE)


class SpeechError(StsError):
    """A WAV file cannot be used as speech; the message says why, in one line."""


def speech_from_wav(path: Path) -> bytes:
    """Read a WAV file as telephone audio: PCM of any width, float, mu-law or A-law, of any rate; channels are averaged.

    Raises:
        SpeechError: the file cannot be read, is no WAV that we can play, or holds nothing.
    """
    try:
        with path.open("rb") as opened, soundfile.SoundFile(opened) as file:
            rate, samples = file.samplerate, file.read(dtype="float64", always_2d=True)
    except (OSError, soundfile.SoundFileError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else getattr(exc, "error_string", str(exc))
        raise SpeechError(f"cannot read {path} as a WAV file: {one_line(str(reason))}") from exc
    if not samples.size:
        raise SpeechError(f"{path} holds no audio")
    mono = np.clip(np.nan_to_num(samples), -1, 1).mean(axis=1)  # floats may be anything, or no numbers
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE, quality="HQ")
    pcm: bytes = np.clip(np.rint(mono * 32768), -32768, 32767).astype("<i2").tobytes()
    return pcm


def utterances(pcm: bytes, gap: float = BETWEEN_UTTERANCES) -> list[bytes]:
    """Cut telephone audio at every silence of at least `gap` seconds; each part keeps 0.1 s around it."""
    frame = round(FRAME_SECONDS * RATE)
    parts = []
    for begin, end in sounds(pcm, gap):
        first = max(0, round(begin * RATE) - _MARGIN) // frame * frame
        parts.append(pcm[2 * first : 2 * (round(end * RATE) + _MARGIN)])
    return parts
