"""What the bridge asks for: values that the session carries out. What the caller hears is in the playout, not here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sts_trio.call.outcome import CallOutcome
    from sts_trio.providers.events import CallInfo


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Send caller audio to the agent, at most a frame."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session with the provider for this call."""

    call: CallInfo


@dataclass(frozen=True, slots=True)
class Attach:
    """The session takes audio from now on."""


@dataclass(frozen=True, slots=True)
class Say:
    """Have the agent speak this text."""

    text: str


@dataclass(frozen=True, slots=True)
class RefuseTool:
    """Tell the agent that a tool call cannot be carried out."""

    id: str
    message: str


@dataclass(frozen=True, slots=True)
class Note:
    """Log this."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """End the call."""

    outcome: CallOutcome


Action = SendAudio | OpenSession | Attach | Say | RefuseTool | Note | End
Actions = tuple[Action, ...]
