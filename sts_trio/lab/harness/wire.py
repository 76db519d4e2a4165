"""Core's messages as Core itself writes and reads them (docs/protocols/core.md 2). Pure.

Written apart from the service's own codec on purpose: a mistake shared by both sides would hide itself.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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


class AudioMessage(msgspec.Struct, tag_field="type", tag="audio"):
    audio: bytes  # in base64


class InterruptionMessage(msgspec.Struct, tag_field="type", tag="interruption"):
    pass


class TranscriptMessage(msgspec.Struct, tag_field="type", tag="transcript"):
    role: Literal["user", "agent"]
    text: str
    emotions: dict[str, float] | None = None


class ErrorMessage(msgspec.Struct, tag_field="type", tag="error"):
    message: str


Message = AudioMessage | InterruptionMessage | TranscriptMessage | ErrorMessage
read: Callable[[str | bytes], Message] = msgspec.json.Decoder(Message).decode
"""Read the text of a message; raises `UNREADABLE` when Core could not use it. Bytes are UTF-8."""
UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
_encode = msgspec.json.Encoder().encode


def decode(message: str | bytes) -> FromConnector:
    """Read one WebSocket message of a connector. Never raises: what Core could not use becomes `Unknown`.

    Strict where the protocol is: text frames only, `role` is ``user`` or ``agent``, base64 in its standard
    alphabet, whole samples.
    """
    if isinstance(message, bytes):
        return Unknown(f"a binary message of {len(message)} bytes")
    try:
        match read(message):
            case AudioMessage(audio=pcm) if len(pcm) % 2:
                return Unknown(f"audio of {len(pcm)} bytes: half a sample")
            case AudioMessage(audio=pcm):
                return Audio(pcm)
            case TranscriptMessage(role=role, text=text, emotions=emotions):
                return Transcript(role, text, emotions or {})
            case ErrorMessage(message=text):
                return Error(text)
            case InterruptionMessage():
                return Interruption()
    except UNREADABLE as exc:
        return Unknown(str(exc)[:120])


def is_unknown_type(exc: BaseException) -> bool:
    """Whether a message was `UNREADABLE` only because Core knows none of its type."""
    return isinstance(exc, msgspec.ValidationError) and str(exc).endswith("`$.type`")


def init(uuid: str) -> str:
    """The first message of a call."""
    return _encode({"type": "init", "uuid": uuid}).decode()


def audio(pcm: bytes) -> str:
    """Caller audio: s16le, 8000 Hz, mono, nominally 320 bytes."""
    return audio_of(binascii.b2a_base64(pcm, newline=False)).decode()


def audio_of(encoded: bytes) -> bytes:
    """Caller audio that is in base64 already, as UTF-8."""
    return b'{"type":"audio","audio":"%s"}' % encoded


def dtmf_digit(digit: str) -> str:
    """A key was pressed: one of 0-9, *, #, A-D."""
    return _encode({"type": "dtmf_digit", "digit": digit}).decode()
