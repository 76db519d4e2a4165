"""What a caller hears when the agent has failed for good, instead of dead air: the operator's words, or a tone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.audio.resample import TelephoneResampler
from sts_trio.audio.tones import congestion_tone
from sts_trio.audio.wav import WavError, parse_wav
from sts_trio.errors import ConfigError

if TYPE_CHECKING:
    from sts_trio.settings import Settings

log = structlog.get_logger(__name__)

TONE = "tone"
_TONE_PERIODS = 8  # four seconds
_LONGEST_SECONDS = 30


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
    voice = TelephoneResampler()
    pcm = b"".join(voice.feed(part) for part in wav.cut(1.0)) + voice.flush()
    return pcm[: _LONGEST_SECONDS * BYTES_PER_SECOND]


def find_fallback(settings: Settings) -> bytes:
    """Load what a caller hears when the agent has failed; for a file that cannot be used the tone, and a log line."""
    if settings.fallback_wav is None:
        return b""
    try:
        return load_fallback(settings.fallback_wav)
    except ConfigError as exc:
        log.error("callers whose agent fails will hear the tone", problem=str(exc))
        return load_fallback(TONE)
