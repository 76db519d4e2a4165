"""G.711 and PCM for the emulator: the standard library's `audioop`, or audioop-lts, which it has become."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.11 and 3.12 tell of its removal
    import audioop

PCM, PCMU, PCMA = "audio/pcm", "audio/pcmu", "audio/pcma"


def to_pcm(data: bytes, kind: str) -> bytes:
    """Return s16le."""
    if kind == PCM:
        return data
    return audioop.ulaw2lin(data, 2) if kind == PCMU else audioop.alaw2lin(data, 2)


def from_pcm(pcm: bytes, kind: str) -> bytes:
    """Return s16le in a session's format."""
    if kind == PCM:
        return pcm
    return audioop.lin2ulaw(pcm, 2) if kind == PCMU else audioop.lin2alaw(pcm, 2)
