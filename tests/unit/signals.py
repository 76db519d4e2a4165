"""Signals and measures for tests of audio: tones, WAV files written by hand, SNR and length of what came out."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from sts_trio.audio.pcm import RATE, Wav

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from sts_trio.audio.resample import TelephoneResampler

Samples = np.ndarray[Any, np.dtype[np.float64]]
EDGE = RATE // 20  # 50 ms at each end, where a filter swings in and out, are not measured


def tone(frequency: float, rate: int, seconds: float, amplitude: float = 16_000) -> Samples:
    """A sine that begins at phase 0."""
    phase = 2 * np.pi * frequency / rate * np.arange(round(rate * seconds), dtype=np.float64)
    return np.asarray(amplitude * np.sin(phase), dtype=np.float64)


def pcm(samples: NDArray[np.float64], channels: int = 1) -> bytes:
    """The samples as s16le, limited, the same in every channel."""
    one = np.rint(samples).clip(-32768, 32767).astype("<i2")
    return np.repeat(one, channels).tobytes()


def values(audio: bytes) -> Samples:
    """The samples of s16le."""
    return np.frombuffer(audio, dtype="<i2").astype(np.float64)


def snr(got: bytes, wanted: NDArray[np.float64]) -> float:
    """How far the difference lies under `wanted`, in dB: a wrong pitch, level or delay is noise as well."""
    heard = values(got)
    size = min(len(heard), len(wanted))
    noise = (heard[:size] - wanted[:size])[EDGE:-EDGE]
    return 10 * float(np.log10(np.mean(wanted[:size][EDGE:-EDGE] ** 2) / max(float(np.mean(noise**2)), 1e-9)))


def even_chunks(seconds: float) -> Iterator[float]:
    """Chunks of one length, without end."""
    while True:
        yield seconds


def uneven_chunks() -> Iterator[float]:
    """Chunks of all lengths between a few samples and half a second, in no pattern."""
    lengths = np.random.default_rng(1)
    while True:
        yield float(lengths.choice([0.0001, 0.003, 0.02, 0.0213, 0.1, 0.137, 0.5]))


def play(resampler: TelephoneResampler, audio: bytes, rate: int, channels: int, chunks: Iterable[float]) -> bytes:
    """Feed `audio` in chunks of so many seconds each; return what is ready (nothing is flushed)."""
    out = bytearray()
    start = 0
    for seconds in chunks:
        size = max(round(rate * seconds), 1) * 2 * channels
        out += resampler.feed(Wav(rate, channels, memoryview(audio)[start : start + size]))
        start += size
        if start >= len(audio):
            return bytes(out)
    return bytes(out)


def riff(*chunks: bytes) -> bytes:
    """A RIFF/WAVE file of these chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def chunk(name: bytes, body: bytes, claimed: int | None = None) -> bytes:
    """A RIFF chunk, padded to an even length. `claimed` is its size field where that is not the truth."""
    size = len(body) if claimed is None else claimed
    return name + struct.pack("<I", size) + body + bytes(len(body) % 2)


def fmt(rate: int = 24_000, channels: int = 1, bits: int = 16, kind: int = 1) -> bytes:
    """A `fmt ` chunk of 16 bytes."""
    block = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits))


def extensible(rate: int, channels: int, subformat: int, bits: int = 16) -> bytes:
    """A `fmt ` chunk of 40 bytes: WAVE_FORMAT_EXTENSIBLE with one of Microsoft's sub-format GUIDs."""
    block = channels * bits // 8
    guid = struct.pack("<H", subformat) + bytes.fromhex("000000001000800000aa00389b71")
    head = struct.pack("<HHIIHH", 0xFFFE, channels, rate, rate * block, block, bits)
    return chunk(b"fmt ", head + struct.pack("<HHI", 22, bits, 0) + guid)
