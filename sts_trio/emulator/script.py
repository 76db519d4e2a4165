"""What a test can make the emulator do wrong. Data only; `server` and `chat` act on it.

A script belongs to one connection. Times are seconds after the upgrade was accepted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Accept:
    """Answer the upgrade as EVI does."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the upgrade with this HTTP status and JSON body."""

    status: int
    body: str = '{"message":"refused by the emulator\'s script"}'


@dataclass(frozen=True, slots=True)
class Mute:
    """Accept the TCP connection, read, and never say anything."""


@dataclass(frozen=True, slots=True)
class SendRaw:
    """Send this in one frame: text, or binary for bytes."""

    after: float
    data: str | bytes


@dataclass(frozen=True, slots=True)
class SendGarbage:
    """Put these bytes on the wire, outside of any frame."""

    after: float
    data: bytes


@dataclass(frozen=True, slots=True)
class SendError:
    """Send an `error` message, and go on."""

    after: float
    code: str
    slug: str = "scripted"
    message: str = "An error that the emulator's script asked for."


@dataclass(frozen=True, slots=True)
class CloseWith:
    """Close in an orderly way, with this code."""

    after: float
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reset:
    """Drop the connection: TCP RST, no close frame."""

    after: float


Step = SendRaw | SendGarbage | SendError | CloseWith | Reset


@dataclass(frozen=True, slots=True)
class Script:
    """One connection's story; the default is a faithful EVI.

    `metadata`: whether `chat_metadata` and the settings echo are sent at all. `steps` run beside the conversation,
    in the order of their times.
    """

    handshake: Accept | Refuse | Mute = Accept()
    metadata: bool = True
    steps: tuple[Step, ...] = ()


def faithful(_connection: int) -> Script:
    """Nothing wrong, on any connection."""
    return Script()
