"""Telephone audio in the formats of the Realtime protocol, both ways (docs/protocols/realtime.md 3). Pure.

G.711 is the standard library's `audioop`, which left it with Python 3.13 and goes on as the package audioop-lts:
0.4 µs a frame. With it nothing is resampled: a line that is G.711 itself (most are) comes through bit exact.
"""

from __future__ import annotations

import warnings
from typing import Literal, Protocol

from sts_trio.audio.pcm import RATE, SampleAligner
from sts_trio.audio.resample import CallerResampler
from sts_trio.audio.wav import Wav

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

Format = Literal["pcmu", "pcma", "pcm"]


class Codec(Protocol):
    """One call's. `format` is what the session is told, `spoken_rate` the Hz of the agent's voice."""

    format: dict[str, object]
    spoken_rate: int

    def encode(self, pcm: bytes) -> bytes:
        """Turn caller audio (s16le, 8000 Hz, mono, whole samples) into the session's format."""
        ...

    def begin(self) -> None:
        """Another piece of the agent's voice begins; what was left of a sample of the last one is for nobody."""
        ...

    def decode(self, data: bytes) -> Wav:
        """Turn a chunk of the agent's voice into PCM."""
        ...


class G711:
    """µ-law or A-law at 8 kHz: a byte a sample."""

    spoken_rate = RATE

    def __init__(self, law: Literal["pcmu", "pcma"]) -> None:
        self.format: dict[str, object] = {"type": f"audio/{law}"}
        self._encode = audioop.lin2ulaw if law == "pcmu" else audioop.lin2alaw
        self._decode = audioop.ulaw2lin if law == "pcmu" else audioop.alaw2lin

    def encode(self, pcm: bytes) -> bytes:
        """See `Codec`."""
        return self._encode(pcm, 2)

    def begin(self) -> None:
        """See `Codec`: a byte is a sample."""

    def decode(self, data: bytes) -> Wav:
        """See `Codec`."""
        return Wav(RATE, 1, memoryview(self._decode(data, 2)))


class Pcm:
    """Linear 16 bit PCM at a rate of the service's."""

    def __init__(self, rate: int) -> None:
        self.format: dict[str, object] = {"type": "audio/pcm", "rate": rate}
        self.spoken_rate = rate
        self._up = CallerResampler(rate) if rate != RATE else None
        self._samples = SampleAligner()

    def encode(self, pcm: bytes) -> bytes:
        """See `Codec`."""
        return self._up.feed(pcm) if self._up else pcm

    def begin(self) -> None:
        """See `Codec`."""
        self._samples = SampleAligner()

    def decode(self, data: bytes) -> Wav:
        """See `Codec`. Chunks may be cut anywhere, also in a sample."""
        return Wav(self.spoken_rate, 1, memoryview(self._samples.feed(data)))


def open_codec(format_: Format, rate: int) -> Codec:
    """Begin one call's audio; `rate` is that of linear PCM."""
    return Pcm(rate) if format_ == "pcm" else G711(format_)
