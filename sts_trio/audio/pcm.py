"""The format of a telephone call, how its bytes are cut, and the WAV files that a provider sends. Pure.

Everywhere on Core's side audio is PCM, signed 16 bit, little-endian, 8000 Hz, mono (docs/protocols/core.md 3).
A *frame* is 20 ms of it: 160 samples, 320 bytes.

A WAV is one complete RIFF file in every chunk of audio. Nothing is assumed of its header (rates of 24 and 48 kHz are
both seen from EVI, docs/protocols/evi.md 4.2). Streaming writers leave the `data` size at 0 or 0xFFFFFFFF; then, or
when it exceeds what is there, the rest of the file is the audio.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


RATE = 8000
SAMPLE_BYTES = 2
BYTES_PER_SECOND = RATE * SAMPLE_BYTES
FRAME_SECONDS = 0.02
FRAME_BYTES = 320
_LOUD = 512


def seconds(size: int) -> float:
    """How long `size` bytes of telephone audio last, in seconds."""
    return size / BYTES_PER_SECOND


def pieces(data: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    """Cut `data` into pieces of `size` bytes; the last may be shorter. Nothing is copied when one is enough."""
    if len(data) <= size:
        if data:
            yield data
        return
    for start in range(0, len(data), size):
        yield data[start : start + size]


def is_loud(pcm: bytes) -> bool:
    """Whether somebody may be speaking in this frame: its peak is above -36 dBFS, where line noise is not."""
    return bool(pcm) and int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max()) > _LOUD


class SampleAligner:
    """Keeps whole samples together: an odd last byte waits for the next piece of the same stream."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: bytes) -> bytes:
        """Return the whole samples in what waited and `data`."""
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if len(data) & 1:
            self._carry = data[-1:]
            return data[:-1]
        return data


_PCM = 0x0001
_EXTENSIBLE = 0xFFFE
_MAX_RATE = 192_000
# Of the rate's ratio to 8 kHz in lowest terms, both multiplied: 44.1 kHz is 441:80, 11.025 kHz 441:320. It bounds the
# resampler's tables; 44,101 Hz would need gigabytes.
_MOST_COMPLEX_RATIO = 150_000
_MAX_CHANNELS = 8


class WavError(ValueError):
    """The bytes are no WAV file that we can play; the message says what is wrong with them."""


@dataclass(frozen=True, slots=True)
class Wav:
    """PCM with its format. `pcm` holds whole blocks of signed 16 bit little-endian samples, channels interleaved."""

    rate: int
    channels: int
    pcm: memoryview

    @property
    def seconds(self) -> float:
        """How long it lasts, in seconds."""
        return len(self.pcm) / (2 * self.channels * self.rate)

    def cut(self, seconds: float) -> Iterator[Wav]:
        """Cut it into parts of at most `seconds`, without copying."""
        size = max(round(self.rate * seconds), 1) * 2 * self.channels
        for start in range(0, len(self.pcm), size):
            yield Wav(self.rate, self.channels, self.pcm[start : start + size])


def parse_wav(data: bytes) -> Wav:
    """Find the format and the samples of a RIFF/WAVE file of 16 bit PCM (also as WAVE_FORMAT_EXTENSIBLE).

    Raises:
        WavError: not RIFF/WAVE, no `fmt ` or `data` chunk, or a format other than 16 bit PCM.
    """
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise WavError(f"audio of {len(data)} bytes does not begin with a RIFF/WAVE header")
    rate = channels = 0
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        body = position + 8
        if name == b"fmt ":
            rate, channels = _parse_format(data[body : body + size])
        elif name == b"data":
            if not rate:
                raise WavError("the WAV data comes before its format")
            end = body + size if 0 < size <= len(data) - body else len(data)
            whole_blocks = (end - body) // (2 * channels) * (2 * channels)
            return Wav(rate, channels, memoryview(data)[body : body + whole_blocks])
        position = body + size + (size & 1)  # chunks are padded to an even length (RIFF)
    raise WavError("the WAV has no data chunk")


def _parse_format(body: bytes) -> tuple[int, int]:
    if len(body) < 16:
        raise WavError(f"the WAV format chunk has {len(body)} bytes, needs 16")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if kind == _EXTENSIBLE and len(body) >= 26:
        (kind,) = struct.unpack_from("<H", body, 24)  # the first two bytes of the sub-format's GUID
    if kind != _PCM or bits != 16:
        raise WavError(f"the WAV holds format {kind:#06x} with {bits} bits; only 16 bit PCM is understood")
    if not (1 <= channels <= _MAX_CHANNELS and 1000 <= rate <= _MAX_RATE and _ratio(rate) <= _MOST_COMPLEX_RATIO):
        raise WavError(f"the WAV claims {channels} channels at {rate} Hz")
    return rate, channels


def _ratio(rate: int) -> int:
    return (rate // gcd(rate, RATE)) * (RATE // gcd(rate, RATE))
