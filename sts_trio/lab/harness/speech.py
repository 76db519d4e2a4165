"""Speech for a caller to say, from WAV files: 8000 Hz, 16 bit, mono, whatever the file has."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import soxr

from sts_trio.audio.pcm import FRAME_SECONDS, RATE
from sts_trio.errors import StsError
from sts_trio.lab.harness.measures import sounds

SAMPLE = Path(__file__).with_name("sample.wav")
# Silence this long parts two utterances; the pauses of ordinary speech are shorter.
BETWEEN_UTTERANCES = 1.0
# Kept before and after an utterance, so that its soft beginnings and ends are not lost.
_MARGIN = round(0.1 * RATE)


class SpeechError(StsError):
    """A WAV file cannot be used as speech; the message says why, in one line."""


def speech_from_wav(path: Path) -> bytes:
    """Read a WAV file of any rate and number of channels (integer PCM) as telephone audio; channels are averaged.

    Raises:
        SpeechError: the file cannot be read, is no integer PCM WAV, or holds nothing.
    """
    try:
        with wave.open(str(path), "rb") as file:
            rate, channels, width = file.getframerate(), file.getnchannels(), file.getsampwidth()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as exc:
        raise SpeechError(f"cannot read {path} as a WAV file: {str(exc) or 'it ends early'}") from exc
    data = data[: len(data) - len(data) % (width * channels)]
    if not data or rate <= 0:
        raise SpeechError(f"{path} holds no audio")
    mono = _floats(data, width).reshape(-1, channels).mean(axis=1)
    if rate != RATE:
        mono = soxr.resample(mono, rate, RATE, quality="HQ")
    pcm: bytes = np.clip(np.rint(mono * 32768), -32768, 32767).astype("<i2").tobytes()
    return pcm


def _floats(data: bytes, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Integer PCM of 1 to 4 bytes as floats of -1 to 1. WAV holds 8 bits unsigned, all others signed."""
    if width == 1:
        return (np.frombuffer(data, dtype=np.uint8).astype(np.float64) - 128) / 128
    # The sample goes to the top of 32 bits, so that its sign lands where it belongs.
    padded = np.zeros((len(data) // width, 4), dtype=np.uint8)
    padded[:, 4 - width :] = np.frombuffer(data, dtype=np.uint8).reshape(-1, width)
    return padded.view("<i4").reshape(-1).astype(np.float64) / 2**31


def utterances(pcm: bytes, gap: float = BETWEEN_UTTERANCES) -> list[bytes]:
    """Cut telephone audio at every silence of at least `gap` seconds; each part keeps 0.1 s around it."""
    frame = round(FRAME_SECONDS * RATE)
    parts = []
    for begin, end in sounds(pcm, gap):
        first = max(0, round(begin * RATE) - _MARGIN) // frame * frame
        parts.append(pcm[2 * first : 2 * (round(end * RATE) + _MARGIN)])
    return parts
