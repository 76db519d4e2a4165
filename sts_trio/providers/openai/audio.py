"""Telephone audio in the formats of the Realtime protocol, and how much of the agent's voice was played. Pure.

Formats: docs/protocols/realtime.md 3. What was played decides about truncation (docs/protocols/realtime.md 7.2).

G.711 is the standard library's `audioop`, which left it with Python 3.13 and goes on as the package audioop-lts:
0.4 µs a frame. With it nothing is resampled: a line that is G.711 itself (most are) comes through bit exact.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol

from sts_trio.audio.pcm import RATE, SampleAligner, Wav
from sts_trio.audio.resample import CallerResampler

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

if TYPE_CHECKING:
    from collections.abc import Callable

Format = Literal["pcmu", "pcma", "pcm"]
Width = Literal[2]  # bytes a sample of caller audio, as audioop wants to be told

# How long the voice that was given last is still on its way through the call and Core.
_LINE_SECONDS = 0.2
_MOST_VOICES = 256  # items without a silence between them; older ones have been heard
_REMEMBERED = 64  # items, of which more may come when they have been heard, or cut
# Less than this unheard counts as heard: the last frame of an item is filled up with silence.
_TOLERANCE_SECONDS = 0.03


class Codec(Protocol):
    """One session's. `format` is what the session is told, `spoken_rate` the Hz of the agent's voice."""

    format: dict[str, object]
    spoken_rate: int

    @property
    def encode(self) -> Callable[[bytes, Width], bytes]:
        """Turns caller audio (s16le, 8000 Hz, mono, whole samples; and its width) into the session's format.

        It has the shape of audioop's functions, so that for G.711 it is one of them, with no call between.
        """
        ...

    def begin(self) -> None:
        """Begin another piece of the agent's voice: half a sample that was left of the last one is dropped."""
        ...

    def decode(self, data: bytes) -> Wav:
        """Turn a chunk of the agent's voice into PCM."""
        ...


class G711:
    """µ-law or A-law at 8 kHz: a byte a sample."""

    spoken_rate = RATE

    def __init__(self, law: Literal["pcmu", "pcma"]) -> None:
        self.format: dict[str, object] = {"type": f"audio/{law}"}
        self.encode: Callable[[bytes, Width], bytes] = audioop.lin2ulaw if law == "pcmu" else audioop.lin2alaw
        self._decode = audioop.ulaw2lin if law == "pcmu" else audioop.alaw2lin

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

    def encode(self, pcm: bytes, _: Width) -> bytes:
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


@dataclass(frozen=True, slots=True)
class Cut:
    """Of `item`, which lasts `of_ms`, the caller has heard `heard_ms`. `part` is the place of its voice in it."""

    item: str
    heard_ms: int
    of_ms: int
    part: int = 0


@dataclass(slots=True)
class _Voice:
    item: str
    seconds: float
    part: int = 0


class PlaybackEstimate:
    """The voice that a call has been given since the last silence, item by item, by one session or several.

    Whether the caller still listens is estimated by the clock, since the call plays in real time. How much was not
    heard is not estimated: the call says it, exactly.
    """

    def __init__(self) -> None:
        self._voices: deque[_Voice] = deque(maxlen=_MOST_VOICES)
        self._plays_until = -inf
        self._heard: deque[_Voice] = deque(maxlen=_REMEMBERED)  # out
        self._cut: deque[str] = deque(maxlen=_REMEMBERED)

    def give(self, item: str, seconds: float, now: float, part: int = 0) -> None:
        """A chunk of an item's voice has been given to the call."""
        if now >= self._plays_until + _LINE_SECONDS:
            self._heard += self._voices
            self._voices.clear()
        if self._voices and self._voices[-1].item == item:
            self._voices[-1].seconds += seconds
        else:
            self._voices.append(_Voice(item, seconds, part))
        self._plays_until = max(self._plays_until, now) + seconds

    def given(self, item: str) -> float:
        """Seconds of this item's voice; infinity if it is not known (any more)."""
        return next((voice.seconds for voice in self._voices if voice.item == item), inf)

    def playing(self, now: float) -> bool:
        """Whether the caller is still listening to it."""
        return now < self._plays_until + _LINE_SECONDS

    def cut(self, unheard: float) -> list[Cut]:
        """The last `unheard` seconds will not be played: return the items that this shortens, oldest first."""
        cuts: list[Cut] = []
        for voice in reversed(self._voices):
            if unheard <= _TOLERANCE_SECONDS:
                break
            heard = max(voice.seconds - unheard, 0.0)
            cuts.append(Cut(voice.item, int(heard * 1000), round(voice.seconds * 1000), voice.part))
            unheard -= voice.seconds
            self._cut.append(voice.item)
        self._heard += (voice for voice in self._voices if voice.item not in self._cut)
        self._voices.clear()
        self._plays_until = -inf
        return cuts[::-1]

    def drop(self, item: str) -> Cut | None:
        """More of this item came than was given to the call. Return what that shortens; None if it is cut already."""
        if item in self._cut:
            return None
        self._cut.append(item)
        seconds = sum(voice.seconds for voice in (*self._heard, *self._voices) if voice.item == item)
        return Cut(item, int(seconds * 1000), int(seconds * 1000))
