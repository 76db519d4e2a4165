"""What the bridge asks for: values that the session carries out. What the caller hears is in the playout, not here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.call.outcome import CallOutcome
    from sts_trio.providers.base import CallInfo
    from sts_trio.tools.tool import Tool, ToolResult


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Send caller audio to the agent, at most a frame."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session with the provider for this call. `number` is what its events, and other actions, name it by.

    `kind`: the ``first`` of the call, or, when it is opened, a ``resume`` or a ``renewal``.
    """

    call: CallInfo
    number: int
    kind: str = "first"


@dataclass(frozen=True, slots=True)
class Attach:
    """This session takes audio, and all that is said to the agent, from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    """Close this session; another has taken its place, or nothing can be expected of it."""

    number: int


@dataclass(frozen=True, slots=True)
class Say:
    """Have the agent speak this text."""

    text: str


@dataclass(frozen=True, slots=True)
class SendUserText:
    """Give the agent this text as if the caller had said it."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AddContext:
    """Let the agent know this text; it does not answer now."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Truncate:
    """Let the agent know how much of its voice a barge-in took back: the last so many seconds."""

    unheard: float


@dataclass(frozen=True, slots=True)
class RunTool:
    """Start a tool. `id` is what its end, or a `CancelTool`, names it by."""

    id: str
    tool: Tool
    arguments: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop a tool: nobody waits for it any more."""

    id: str


@dataclass(frozen=True, slots=True)
class AnswerTool:
    """Answer a tool call of the agent."""

    id: str
    result: ToolResult


@dataclass(frozen=True, slots=True)
class CallWebhook:
    """Tell an operator's service that something happened in this call."""

    url: str = field(repr=False)
    kind: str
    payload: Mapping[str, object] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LogWarning:
    """Log this: constant words, and what is known of it as fields."""

    event: str
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class End:
    """End the call."""

    outcome: CallOutcome


Action = (
    SendAudio
    | OpenSession
    | Attach
    | CloseSession
    | Say
    | SendUserText
    | AddContext
    | Truncate
    | RunTool
    | CancelTool
    | AnswerTool
    | CallWebhook
    | LogWarning
    | End
)
Actions = tuple[Action, ...]
