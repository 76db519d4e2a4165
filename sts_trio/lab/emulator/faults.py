"""What the emulator can be made to do wrong, and which of it befalls a connection. Pure.

Tests build faults here and of `steps`; `options.parse_faults` reads the same from a file, where `fault` is the tag.
Numbers out of range are found there; here only the close code is checked. `server` and `conversation` act on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta

from sts_trio.lab.emulator.realtime.steps import RealtimeStep
from sts_trio.lab.emulator.steps import (
    CloseWith,
    Cut,
    Delay,
    DoubledChunks,
    Fault,
    Flood,
    GarbageOnly,
    HalfOpen,
    LateChunks,
    NoEnds,
    OddArguments,
    Reset,
    ResetInFrame,
    SameIds,
    Seconds,
    SendBinary,
    SendError,
    SendGarbage,
    SendJunk,
    SendRaw,
    SlowReader,
    SwappedChunks,
    Wait,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


# --- instead of a chat ---


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer the upgrade as EVI does."""


class Drop(Fault, frozen=True, tag="drop"):
    """Close the TCP connection as soon as it is there; with a RST, or in order."""

    reset: bool = True


class Refuse(Fault, frozen=True, tag="status"):
    """Answer the upgrade with this HTTP status, body and further headers."""

    status: Annotated[int, Meta(ge=200, le=599)] = 503
    body: str = '{"message":"refused by the emulator\'s script"}'
    headers: dict[str, str] = msgspec.field(default_factory=dict)


class Mute(Fault, frozen=True, tag="mute"):
    """Accept the TCP connection, read, and never say anything."""


# --- on the way to a chat ---


class SlowHandshake(Fault, frozen=True, tag="slow_handshake"):
    """Answer the upgrade, whatever the answer is, `seconds` late."""

    seconds: Seconds = 1.0


class NoMetadata(Fault, frozen=True, tag="no_metadata"):
    """Send neither `chat_metadata` nor the settings echo; all else is as ever. The moment `ready` never comes."""


class LateMetadata(Fault, frozen=True, tag="late_metadata"):
    """Send `chat_metadata` and the settings echo, or `session.created`, so many seconds after the upgrade."""

    seconds: Wait = 0.5


Handshake = Drop | Refuse | Mute
Said = SendRaw | SendBinary | SendGarbage | SendJunk | Flood
End = CloseWith | Cut | Reset | ResetInFrame
Disorder = LateChunks | SwappedChunks | DoubledChunks
Oddness = GarbageOnly | SameIds | OddArguments | NoEnds
AnyStep = Said | SendError | End | HalfOpen | SlowReader | Delay | Disorder | Oddness | RealtimeStep
AnyFault = Handshake | SlowHandshake | NoMetadata | LateMetadata | AnyStep


@dataclass(frozen=True, slots=True)
class Script:
    """What happens on one connection; the default is a faithful EVI.

    `metadata`: whether `chat_metadata` and the settings echo are sent at all. `steps` run beside the conversation,
    in the order of their times. `delay`: seconds until the upgrade is answered; `late`: from there to `metadata`.
    """

    handshake: Accept | Handshake = Accept()
    metadata: bool = True
    steps: tuple[AnyStep, ...] = ()
    delay: float = 0.0
    late: float = 0.0


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody listens, so that TCP connections are refused: from `after` seconds after the start on, for `seconds`."""

    after: Seconds = 0.0
    seconds: Seconds = 10.0


def faithful(_connection: int) -> Script:
    """Nothing wrong, on any connection."""
    return Script()


def faults_for(script: Script, faults: Sequence[AnyFault], connection: int, seed: int) -> Script:
    """Return what happens to a connection: its script and those of `faults` that befall it.

    The same seed gives the same result, whatever other connections did. Of several answers to the upgrade the first
    counts, of several delays the longest.
    """
    handshake: Accept | Handshake = script.handshake
    if isinstance(handshake, Fault) and not _comes(handshake, connection, seed, 0):
        handshake = Accept()
    metadata, delay, late = script.metadata, script.delay, script.late
    steps: list[AnyStep] = []
    for place, fault in enumerate((*script.steps, *faults), 1):
        if not _comes(fault, connection, seed, place):
            continue
        match fault:
            case Drop() | Refuse() | Mute():
                handshake = fault if isinstance(handshake, Accept) else handshake
            case SlowHandshake(seconds=seconds):
                delay = max(delay, seconds)
            case NoMetadata():
                metadata = False
            case LateMetadata(seconds=seconds):
                late = max(late, seconds)
            case step:
                steps.append(step)
    return Script(handshake, metadata, tuple(steps), delay, late)


def _comes(fault: Fault, connection: int, seed: int, place: int) -> bool:
    if not fault.befalls(connection):
        return False
    return fault.chance >= 1 or bool(np.random.default_rng((seed, connection, place)).random() < fault.chance)
