"""What a chat decides: to be sent at once, as speech, or not any more. Data; `outbox` and `disorder` act on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sts_trio.lab.emulator.script import End, Said
from sts_trio.lab.emulator.wire import AudioOutput, Cancelled, Event, ServerMessage


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in an orderly way, when everything before it has been sent."""

    code: int = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Late:
    """A chunk, or another message, that comes `by` seconds after what was sent when it was due."""

    chunk: AudioOutput | Event
    by: float


Item = ServerMessage | Event | Cancelled | Close | Said | End | Late
Turn = Iterator[tuple[float, Item]]  # (seconds of speech since its beginning, what to send)


@dataclass(frozen=True, slots=True)
class Say:
    """Send these one after another, each not before its time."""

    turn: Turn


@dataclass(frozen=True, slots=True)
class Hush:
    """Forget all speech that has not been sent."""


Action = Item | Say | Hush
