"""The agent's voice: recordings and utterances as chunks of WAV, as `audio_output` carries them."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Recording:
    """Mono speech, 16 bit, at `rate` Hz."""

    samples: NDArray[np.int16]
    rate: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class VoiceFormat:
    """How the agent's audio is sent: `rate` in Hz, and `next_ms()` gives the length of the next chunk in ms."""

    rate: int
    channels: int
    next_ms: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A complete WAV file, and when it begins, in seconds after the beginning of its utterance."""

    at: float
    wav: bytes


@cache  # one for all chats: 110 kB
def greeting() -> Recording:
    """Return the bundled greeting, "Hello, how can I help you today?" (docs/internals/assets.md)."""
    with (
        resources.files("sts_trio.lab.emulator").joinpath("greeting.wav").open("rb") as file,
        wave.open(file) as source,
    ):
        samples = np.frombuffer(source.readframes(source.getnframes()), "<i2").astype(np.int16)
        return Recording(samples, source.getframerate())


def chunks(speech: Recording, out: VoiceFormat) -> Iterator[Chunk]:
    """Resample `speech` (soxr VHQ) and cut it. Lazy: each chunk costs its own time only, under 1 ms of CPU."""
    piece = speech.rate // 10
    last = max(len(speech.samples) - 1, 0) // piece * piece
    # soxr does nothing when both rates are the same: those samples stay bit exact.
    stream = soxr.ResampleStream(speech.rate, out.rate, 1, dtype="float32", quality="VHQ")
    ready: NDArray[np.int16] = np.empty(0, np.int16)
    size = out.rate * out.next_ms() // 1000
    sent = 0
    for start in range(0, len(speech.samples), piece):
        part = speech.samples[start : start + piece].astype(np.float32)
        made = stream.resample_chunk(part, last=start == last)
        ready = np.concatenate((ready, np.clip(np.rint(made), -32768, 32767).astype(np.int16)))
        while len(ready) >= size or (start == last and len(ready)):
            yield Chunk(sent / out.rate, wav_file(ready[:size], out.rate, out.channels))
            sent += min(size, len(ready))
            ready = ready[size:]
            size = out.rate * out.next_ms() // 1000


def wav_file(samples: NDArray[np.int16], rate: int, channels: int) -> bytes:
    """Return a WAV file of mono `samples`, the same on each of `channels`."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.repeat(samples, channels).astype("<i2").tobytes())
    return buffer.getvalue()
