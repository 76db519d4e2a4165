"""Core's messages: JSON text to typed values and back (docs/protocols/core.md 2). Pure.

A message that is not understood never raises: it becomes `NotUnderstood`, and the call decides what that means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


# What Core says. Field types do the checking: `bytes` is base64 on the wire.


class Init(msgspec.Struct, tag_field="type", tag="init", frozen=True):
    """The first message of a call. `uuid` may be missing, odd, or just ``unknown`` (docs/protocols/core.md 1.6)."""

    uuid: object = None


class CallerAudio(msgspec.Struct, tag_field="type", tag="audio", frozen=True):
    """Caller audio: s16le, 8000 Hz, mono; nominally 320 bytes, any length is taken."""

    audio: bytes


class Digit(msgspec.Struct, tag_field="type", tag="dtmf_digit", frozen=True):
    """A key was pressed: one of 0-9, *, #, A-D."""

    digit: str


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A message that we cannot use. `about` says what is wrong with it, without repeating what it holds."""

    about: str


FromCore = Init | CallerAudio | Digit | NotUnderstood


# What Core hears.


class PlayoutAudio(msgspec.Struct, tag_field="type", tag="audio", frozen=True):
    """The agent's voice: whole 20 ms frames of s16le, 8000 Hz, mono."""

    audio: bytes


class Interruption(msgspec.Struct, tag_field="type", tag="interruption", frozen=True):
    """The caller spoke over the agent: Core drops what it has not played yet."""


class Transcript(msgspec.Struct, tag_field="type", tag="transcript", frozen=True, omit_defaults=True):
    """The text of a finished turn. `role` is ``user`` or ``agent``.

    Beyond Core's protocol: `emotions` holds a user turn's strongest, if any; `heard_ms` is how much of an interrupted
    agent turn the caller heard, in milliseconds of its audio.
    """

    role: str
    text: str
    emotions: Mapping[str, float] | None = None
    heard_ms: int | None = None


class Error(msgspec.Struct, tag_field="type", tag="error", frozen=True):
    """What went wrong, for the operator. No key, no caller text."""

    message: str


ToCore = PlayoutAudio | Interruption | Transcript | Error


class _Kind(msgspec.Struct):
    type: object = None


_decode = msgspec.json.Decoder(Init | CallerAudio | Digit).decode
_decode_kind = msgspec.json.Decoder(_Kind).decode
_encode = msgspec.json.Encoder().encode
_KNOWN = ("init", "audio", "dtmf_digit")


def parse_from_core(message: str | bytes) -> FromCore:
    """Read a WebSocket message, text or binary, as old connectors do (docs/protocols/core.md 1.3). Never raises."""
    try:
        heard: Init | CallerAudio | Digit = _decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        return NotUnderstood(_describe(message, exc))
    return heard


def _describe(message: str | bytes, exc: Exception) -> str:
    try:
        kind = _decode_kind(message).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return f"a message of {len(message)} characters that is no JSON object ({_where(exc)})"
    if kind in _KNOWN:
        return f"a broken {kind} message ({_where(exc)})"
    if isinstance(kind, str):
        return f"an unknown message type {kind[:32]!r}"
    return "a message without a type"


def _where(exc: Exception) -> str:
    return str(exc).split(":")[0][:80]


def encode_to_core(message: ToCore) -> str:
    """Write one message as the JSON text that Core expects."""
    return _encode(message).decode()
