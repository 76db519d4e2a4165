"""Core's messages as values (docs/protocols/core.md 2); `core.link` reads and writes their JSON. Pure."""

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
