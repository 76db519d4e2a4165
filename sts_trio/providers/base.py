"""The seam between a call and its agent: the events that every provider gives, and the link that every one offers.

A provider is one function, `OpenAgent`: it opens a session for one call and yields an `AgentLink`. A call knows only
this module: no JSON, no sockets, no vendor's words. Events carry no time: the receiver knows when it got them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto
from math import inf
from typing import TYPE_CHECKING, Protocol

from sts_trio.errors import ConversationGone, ProviderBusy, ProviderLost, ProviderProtocolError, ProviderRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractAsyncContextManager

    from sts_trio.audio.pcm import Wav
    from sts_trio.errors import ProviderError


@dataclass(frozen=True, slots=True)
class AgentReady:
    """The session is open and its settings are in force: caller audio and a greeting may be sent.

    `session` names this session for support requests; `resume` is what reopens the conversation after a drop. Only the
    provider that made it looks into it. `lasts` is how many seconds the provider says that it gives the session.
    `keeps_context`: each context that it is given stays, also in sessions that follow; else the next replaces it.
    """

    session: str
    resume: object | None = None
    lasts: float = inf
    keeps_context: bool = False


@dataclass(frozen=True, slots=True)
class UserSpeaks:
    """The caller has begun to speak; their `UserTurn` follows. Only some providers tell it."""


@dataclass(frozen=True, slots=True)
class UserTurn:
    """What the caller said, as the provider understood it (final text only), with emotion scores by name.

    Without `text` the turn is over, and its words may follow as `UserWords` of the same `turn`.
    """

    text: str
    emotions: Mapping[str, float] = field(default_factory=dict)
    turn: str = ""


@dataclass(frozen=True, slots=True)
class UserWords:
    """The words of a turn that came without them: another model writes them down, in its own time.

    Without `text` none will come. Without a `turn` they are of the oldest that has none.
    """

    text: str
    turn: str = ""


@dataclass(frozen=True, slots=True)
class AgentText:
    """What the agent says in one segment of its turn; `reply` joins it with its audio."""

    reply: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentAudio:
    """A chunk of the agent's voice, faster than real time, in the provider's own rate and channels."""

    reply: str
    wav: Wav


@dataclass(frozen=True, slots=True)
class AgentTurnEnd:
    """The provider has sent the whole turn (the caller may still be listening to it)."""


@dataclass(frozen=True, slots=True)
class UserInterruption:
    """Barge-in: the provider has stopped speaking because the caller spoke."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The agent asks for a function; `arguments` is JSON text. An answer is due when `response_required`.

    `stays_open`: the agent waits for the answer even if it or the caller speaks meanwhile, and may ask for several at
    once. Otherwise an agent that speaks on has dropped the call.
    """

    id: str
    name: str
    arguments: str
    response_required: bool
    stays_open: bool = False


class SessionEndKind(Enum):
    """Why a session is over, as far as it decides what comes next."""

    GOODBYE = auto()  # the agent has ended the conversation
    LOST = auto()  # the connection broke, or the provider let the session go: another may well do better
    DEAD = auto()  # lost as well, and the provider had stopped to answer pings
    FULL = auto()  # the provider works, and has no room for the session at the moment
    REFUSED = auto()  # the provider gives no session (key, configuration, credit): trying again will not help
    FORGOTTEN = auto()  # the provider does not know the conversation to resume: a new one may be begun
    PROTOCOL_ERROR = auto()  # the provider sent what its protocol does not allow


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """The last event of a session, whether it had been open or not. `cause` is one line for a person."""

    cause: str
    kind: SessionEndKind


@dataclass(frozen=True, slots=True)
class AgentFault:
    """The provider reported an error. With `ends` it is about to end the session, and that is how; else it goes on."""

    message: str
    ends: SessionEndKind | None = None


class RetryKind(StrEnum):
    """Why an agent is asked once more for an answer. One word for one thing in metrics."""

    EMPTY = "empty"  # an answer of nothing at all
    TEXT = "text"  # it was written, and not spoken
    FILTERED = "filtered"  # by the provider's rules for content
    INCOMPLETE = "incomplete"  # it ended before it had a voice
    FAILED = "failed"
    LIMIT = "limit"  # too many requests, or tokens, in too short a time
    UNHEARD = "unheard"  # it was taken for one over the caller's words, and dropped
    NO_ANSWER = "no_answer"  # nothing came in time


@dataclass(frozen=True, slots=True)
class AgentRetry:
    """The caller would have heard nothing, and the agent is asked once more. `about` says why, for a person."""

    kind: RetryKind
    about: str


class OddKind(StrEnum):
    """What is wrong with a message that is of no use. One word for one thing in metrics."""

    EMPTY = "empty"  # nothing is said: no text, `null`, `[]`, `"ping"`
    BINARY = "binary"
    JSON = "json"  # it is none, or no object
    TYPE = "type"  # it has none
    FIELD = "field"  # one that the call needs is missing, or of another kind
    AUDIO = "audio"  # it cannot be played
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class OddMessage:
    """The provider said what cannot be used; it is skipped. `about` says what is wrong with it, and repeats nothing."""

    kind: OddKind
    about: str


TOKEN_KINDS = ("text", "audio", "cached", "other")  # a cached token counts as that alone; it costs a fraction


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """What an answer has cost: tokens by direction, ``in`` or ``out``, and by one of `TOKEN_KINDS`."""

    counts: Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How much of what the account may use in a while is left: ``requests`` or ``tokens``.

    After `resets` seconds all of `limit` is there again.
    """

    name: str
    limit: int
    remaining: int
    resets: float


AgentEvent = (
    AgentReady
    | UserSpeaks
    | UserTurn
    | UserWords
    | AgentText
    | AgentAudio
    | AgentTurnEnd
    | UserInterruption
    | ToolCall
    | AgentFault
    | AgentRetry
    | OddMessage
    | SessionEnd
)
AgentNews = TokensUsed | RateLimit  # for whoever measures; the conversation does not depend on it


def never_ready(end: SessionEnd) -> ProviderError:
    """Make the exception that a link raises when a session ends before it was ready."""
    if end.kind is SessionEndKind.FORGOTTEN:
        return ConversationGone(end.cause)
    if end.kind is SessionEndKind.PROTOCOL_ERROR:
        return ProviderProtocolError(end.cause)
    if end.kind is SessionEndKind.FULL:
        return ProviderBusy(end.cause)
    lost = end.kind in (SessionEndKind.LOST, SessionEndKind.DEAD)
    return ProviderLost(end.cause) if lost else ProviderRefused(end.cause)


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """A function that the agent may ask for; `parameters` is the JSON Schema of its arguments, as text."""

    name: str
    description: str
    parameters: str


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """What the agent is told about this one call when its session is opened.

    `config`, `voice`, `instructions` are this call's own, and stand above the provider's settings; None leaves those.
    `variables` are values by name for the prompt.
    """

    config: str | None = None
    voice: str | None = None
    instructions: str | None = field(default=None, repr=False)
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    tools: tuple[ToolOffer, ...] = ()


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What is known of a call when its agent session is opened.

    `id` names the call in logs and at the provider; `uuid` is Core's own id when it gave a usable one (call control
    needs it); `resume` is an `AgentReady.resume` of an earlier session of this same call; `again`: the last try to
    open this session has failed.
    """

    id: str
    uuid: str | None = None
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    resume: object | None = None
    again: bool = False
    session_config: SessionConfig = field(default_factory=SessionConfig)


class AgentLink(Protocol):
    """An open session with the agent. Every method but `receive` may raise `ProviderLost`."""

    @property
    def ping_overdue(self) -> bool:
        """Whether the provider owes the answer to a ping for so long that what is sent now may never arrive."""
        ...

    async def receive(self) -> AgentEvent | AgentNews:
        """Wait for the next event, or news. After `SessionEnd` there is none."""
        ...

    async def send_audio(self, pcm: bytes) -> bool:
        """Send caller audio: 8000 Hz, 16 bit little-endian, mono, whole samples, 20 ms to 200 ms.

        Returns `ping_overdue`, as of now. May pass no checkpoint: sending is a system call when the kernel takes it at
        once.
        """
        ...

    async def say(self, text: str) -> None:
        """Have the agent speak `text` as it stands."""
        ...

    async def user_text(self, text: str) -> None:
        """Give the agent `text` as if the caller had said it; it answers."""
        ...

    async def add_context(self, text: str) -> None:
        """Give the agent `text` as context for its next reply; it does not answer now."""
        ...

    async def go_on(self, words: str, *, cut_off: bool) -> None:
        """Answer the caller's last `words`: the session before was lost, or replaced, before it had.

        `cut_off`: it had begun its answer, or what else it said; go on with that instead.
        """
        ...

    async def stop(self) -> None:
        """Stop speaking, and forget what was about to be said: the caller has pressed a key.

        `truncate` and `user_text`, which is answered, follow at once.
        """
        ...

    async def truncate(self, unheard: float) -> None:
        """After a `UserInterruption` or `stop`: the caller did not hear the last `unheard` seconds of the voice."""
        ...

    async def tool_response(self, call_id: str, content: str) -> None:
        """Answer a `ToolCall` with its result. A session before this one may have asked for it."""
        ...

    async def tool_error(self, call_id: str, message: str) -> None:
        """Answer a `ToolCall` that could not be carried out; the agent hears `message`."""
        ...


class OpenAgent(Protocol):
    """Open a session for one call; leaving the context closes it, in bounded time.

    Raises (on entry):
        ProviderError: no session could be opened; its subclass says whether trying again makes sense.
    """

    def __call__(self, call: CallInfo) -> AbstractAsyncContextManager[AgentLink]: ...
