"""Core's messages as Core itself writes and reads them (docs/protocols/core.md 2). Pure.

Written apart from the service's own codec on purpose: a mistake shared by both sides would hide itself.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Audio:
    """The agent's voice: s16le, 8000 Hz, mono, as many bytes as the connector chose."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Interruption:
    """The caller spoke over the agent: what is queued is not to be played."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """The text of a finished turn. `emotions` (not part of the protocol) are scores by name, if any came."""

    role: Literal["user", "agent"]
    text: str
    emotions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Error:
    """What the connector says went wrong."""

    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that Core would not understand; `about` says why, in one short line."""

    about: str


FromConnector = Audio | Interruption | Transcript | Error | Unknown


class _Audio(msgspec.Struct, tag_field="type", tag="audio"):
    audio: str


class _Interruption(msgspec.Struct, tag_field="type", tag="interruption"):
    pass


class _Transcript(msgspec.Struct, tag_field="type", tag="transcript"):
    role: Literal["user", "agent"]
    text: str
    emotions: dict[str, float] | None = None


class _Error(msgspec.Struct, tag_field="type", tag="error"):
    message: str


_decode = msgspec.json.Decoder(_Audio | _Interruption | _Transcript | _Error).decode
_encode = msgspec.json.Encoder().encode


def decode(message: str | bytes) -> FromConnector:
    """Read one WebSocket message of a connector. Never raises: what Core could not use becomes `Unknown`.

    Strict where the protocol is: text frames only, `role` is ``user`` or ``agent``, base64 in its standard
    alphabet, whole samples.
    """
    if isinstance(message, bytes):
        return Unknown(f"a binary message of {len(message)} bytes")
    try:
        match _decode(message):
            case _Audio(audio=text):
                return _audio(text)
            case _Transcript(role=role, text=text, emotions=emotions):
                return Transcript(role, text, emotions or {})
            case _Error(message=text):
                return Error(text)
            case _:
                return Interruption()
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        return Unknown(str(exc)[:120])


def _audio(text: str) -> Audio | Unknown:
    try:
        pcm = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return Unknown("audio that is not base64")
    if len(pcm) % 2:
        return Unknown(f"audio of {len(pcm)} bytes: half a sample")
    return Audio(pcm)


def init(uuid: str) -> str:
    """The first message of a call."""
    return _encode({"type": "init", "uuid": uuid}).decode()


def audio(pcm: bytes) -> str:
    """Caller audio: s16le, 8000 Hz, mono, nominally 320 bytes."""
    return _encode({"type": "audio", "audio": base64.b64encode(pcm).decode("ascii")}).decode()


def dtmf_digit(digit: str) -> str:
    """A key was pressed: one of 0-9, *, #, A-D."""
    return _encode({"type": "dtmf_digit", "digit": digit}).decode()
