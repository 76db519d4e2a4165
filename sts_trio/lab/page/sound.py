"""A recording as a page carries it: lossless while that is small, else as MP3. Both play in every browser of today."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import soundfile

from sts_trio.audio.pcm import RATE
from sts_trio.lab.harness.recording import stereo

if TYPE_CHECKING:
    from sts_trio.lab.harness.recording import Recording

# In bytes, a third less than in the page. Three minutes of two people who talk, or so; a call of the lab is over after
# five, which are 1.2 MB of MP3.
MOST_LOSSLESS = 3_000_000


@dataclass(frozen=True, slots=True)
class Sound:
    """A file of sound: its media type, its name's ending, and what is in it."""

    kind: str
    ending: str
    data: bytes

    @property
    def url(self) -> str:
        """The whole of it, as a data URL."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


def sound_of(recording: Recording, most_lossless: int = MOST_LOSSLESS) -> Sound:
    """Make a file of a call: caller left, agent right."""
    flac = _encode(recording, "FLAC", "PCM_16")
    if len(flac) <= most_lossless:
        return Sound("audio/flac", "flac", flac)
    return Sound("audio/mpeg", "mp3", _encode(recording, "MP3", "MPEG_LAYER_III"))


def _encode(recording: Recording, form: str, subtype: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, stereo(recording), RATE, format=form, subtype=subtype)
    return out.getvalue()
