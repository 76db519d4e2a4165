"""What the bridge asks of the call: actions to perform, and deadlines to be woken at. Pure.

What the caller hears is in the playout, not here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.call.meter import CallOutcome
    from sts_trio.providers.base import CallInfo
    from sts_trio.tools.tool import Tool, ToolResult


class Deadline(StrEnum):
    """What a call waits for. Of those that are over together the bridge acts on the first here first.

    Those that end the call come first. Tools come before keys: giving keys to the agent may take time, and no tool must
    be stopped before it was started.
    """

    INIT = "init"  # Core's first message
    LENGTH = "length"  # the longest that a call may take
    HUNG_UP = "hung up"  # Core's own close, after a tool has hung up
    HEARD_OUT = "heard out"  # the caller has heard what is queued, and the call ends
    SESSION = "session"  # a session is to be opened, renewed, closed or given up
    ANSWER = "answer"  # the agent's answer to the caller
    NO_INPUT = "no input"  # a word of either side
    SPEECH = "speech"  # a turn of the agent has been heard, or is over unannounced
    TOOLS = "tools"  # a tool that waits for the good-bye
    KEYS = "keys"  # the next key of an entry


# When each is over, in seconds of the call's clock; infinity for what is not waited for. The bridge owns it.
Deadlines = dict[Deadline, float]


@dataclass(frozen=True, slots=True)
class SendAudio:
    """Send caller audio to the agent, at most a frame."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Begin:
    """Core's `init` has come: from now on the call has this id."""

    id: str


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
    """This session takes audio, and all that is said to the agent, from now on.

    `again`: first what was kept of the caller's turn (`KeepAudio`), which the session before has had and not answered.
    """

    number: int
    again: bool = False


@dataclass(frozen=True, slots=True)
class KeepAudio:
    """Keep what the caller says, to say it again should the session be lost: a whole `turn`, or only a moment."""

    turn: bool


@dataclass(frozen=True, slots=True)
class GoOn:
    """Have the agent answer the caller's last `words`, or, `cut_off`, go on with what it was saying."""

    words: str = field(repr=False)
    cut_off: bool = False


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
    """Let the agent know how much of its voice a barge-in took back: the last so many seconds.

    With `stop` the barge-in is ours, by a key: the provider does not know of it, and is to stop speaking first.
    """

    unheard: float
    stop: bool = False


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
    | Begin
    | OpenSession
    | Attach
    | CloseSession
    | KeepAudio
    | GoOn
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
