"""How a call ended, what it moved, and what it tells whoever measures it. Pure.

What comes fifty times a second is counted in `CallCounts`, which a `CallRecord` shows to the measurer while the call
lasts; the rest is told a handful of times a turn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from sts_trio.errors import ProviderError, ProviderLost, ProviderRefused, ProviderTimeout
from sts_trio.providers.base import TOKEN_KINDS, OddKind, RateLimit, RetryKind, TokensUsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sts_trio.providers.base import AgentNews


class Cause(StrEnum):
    """Why a call ended: the same word in logs, in metrics and in the close that Core gets."""

    CALLER_HUNG_UP = "caller_hung_up"
    CALLER_LOST = "caller_lost"
    CALLER_BROKE_PROTOCOL = "caller_broke_protocol"
    AGENT_ENDED = "agent_ended"
    HUNG_UP = "hung_up"
    PROVIDER_FAILED = "provider_failed"
    CALLER_SILENT = "caller_silent"
    NO_INIT = "no_init"
    TOO_LONG = "too_long"
    DRAINED = "drained"
    INTERNAL = "internal_error"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The end of a call. `code` closes Core's WebSocket; `message`, if any, says more of the cause.

    Core hears it as an `error` before the close, unless the agent has said good-bye.
    """

    cause: Cause
    code: int
    message: str = ""

    @property
    def by_caller(self) -> bool:
        """Core's side has gone: there is nobody left to tell."""
        return self.cause in (Cause.CALLER_HUNG_UP, Cause.CALLER_LOST, Cause.CALLER_BROKE_PROTOCOL)


@dataclass(frozen=True, slots=True)
class Series:
    """A series of metrics that shows counts of calls: their sum over all calls.

    With `buckets` it is a histogram instead, of what the count was at the end of each call. A series of several counts
    tells them apart by its `label`.
    """

    name: str
    meaning: str
    label: str | None = None
    buckets: tuple[float, ...] = ()


def _shown(series: Series, value: str = "") -> dict[str, Series | str]:
    """Return a field's metadata: the series that shows it, and the value of its label there."""
    return {"series": series, "value": value}


_AUDIO = Series(
    "sts_audio_seconds",
    "Call audio that was sent: the caller's to the provider, the agent's to Core; 50 frames, 16000 bytes a second",
    "direction",
)
_AGAIN = Series(
    "sts_audio_sent_again_seconds",
    "Call audio of unfinished turns that was sent once more, to the session that took the place of a lost one",
)
_RECEIVED = Series(
    "sts_agent_audio_received_seconds",
    "Agent audio that the provider sent and the playout took; what a barge-in took back is in it",
)
_DROPPED = Series(
    "sts_audio_dropped_seconds",
    "Call audio dropped because a queue was full, or (too_fast) because a caller sent more than real time",
    "queue",
)
_MESSAGES_DROPPED = Series(
    "sts_messages_dropped", "Transcripts and other messages dropped because Core does not read", "queue"
)
_PEAK_SECONDS = Series(
    "sts_queue_peak_seconds",
    "The most audio that waited in a call's queue at once; told when the call ends",
    "queue",
    buckets=(0.02, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 600),
)
_PEAK_MESSAGES = Series(
    "sts_queue_peak_messages",
    "The most messages that waited in a call's queue at once; told when the call ends",
    "queue",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
_TURNS = Series("sts_turns", "Finished turns", "role")
_INTERRUPTIONS = Series("sts_interruptions", "Barge-ins that Core was told of")
_LATE_CHUNKS = Series(
    "sts_late_chunks", "Chunks of an interrupted reply that came after the barge-in, and were thrown away"
)
_STALE_FRAMES = Series(
    "sts_stale_audio_frames",
    "Frames of an interrupted reply that were sent to Core after the barge-in: must stay 0",
)
_KEYS = Series("sts_keys", "Keys that callers pressed")
_TOOL_CALLS = Series("sts_tool_calls", "Tools that agents asked for")
_RULES_FIRED = Series("sts_emotion_rules_fired", "Times that one of EMOTION_RULES fired")
_REPLACED = Series(
    "sts_sessions_replaced",
    "Provider sessions that another took the place of in mid-call: after a break, or before its limit",
    "kind",
)
_LATE_ANSWERS = Series(
    "sts_late_answers", "Turns of callers that the agent had not begun to answer after ANSWER_SECONDS"
)
_RETRIES = Series(
    "sts_provider_retries", "Answers of the agent that were asked for again, since nothing of them was heard", "kind"
)
_FAULTS = Series("sts_provider_faults", "Errors that the provider reported")
_NOT_UNDERSTOOD = Series("sts_not_understood", "Messages of Core that were not understood")
_ODD = Series(
    "sts_provider_not_understood", "Messages of the provider that could not be used, and were skipped", "kind"
)


@dataclass(slots=True)
class CallCounts:
    """What one call moved and dropped. Seconds are of telephone audio; the rest are numbers of messages.

    Nothing here ever becomes less. A peak is the most that waited in a queue at once. The metadata of a field names the
    series of metrics that shows it.
    """

    upstream_seconds: float = field(default=0.0, metadata=_shown(_AUDIO, "to_provider"))
    written_seconds: float = field(default=0.0, metadata=_shown(_AUDIO, "to_core"))
    downstream_seconds: float = field(default=0.0, metadata=_shown(_RECEIVED))
    upstream_dropped_seconds: float = field(default=0.0, metadata=_shown(_DROPPED, "to_provider"))
    upstream_again_seconds: float = field(default=0.0, metadata=_shown(_AGAIN))
    downstream_dropped_seconds: float = field(default=0.0, metadata=_shown(_DROPPED, "to_core"))
    upstream_excess_seconds: float = field(default=0.0, metadata=_shown(_DROPPED, "too_fast"))
    messages_dropped: int = field(default=0, metadata=_shown(_MESSAGES_DROPPED, "to_core"))
    upstream_peak_seconds: float = field(default=0.0, metadata=_shown(_PEAK_SECONDS, "to_provider"))
    downstream_peak_seconds: float = field(default=0.0, metadata=_shown(_PEAK_SECONDS, "to_core"))
    messages_peak: int = field(default=0, metadata=_shown(_PEAK_MESSAGES, "to_core"))
    user_turns: int = field(default=0, metadata=_shown(_TURNS, "user"))
    agent_turns: int = field(default=0, metadata=_shown(_TURNS, "agent"))
    interruptions: int = field(default=0, metadata=_shown(_INTERRUPTIONS))
    stale_chunks: int = field(default=0, metadata=_shown(_LATE_CHUNKS))
    stale_frames_sent: int = field(default=0, metadata=_shown(_STALE_FRAMES))
    digits: int = field(default=0, metadata=_shown(_KEYS))
    tool_calls: int = field(default=0, metadata=_shown(_TOOL_CALLS))
    tools_failed: int = 0  # shown by `sts_tool_runs_total`
    rules_fired: int = field(default=0, metadata=_shown(_RULES_FIRED))
    resumes: int = field(default=0, metadata=_shown(_REPLACED, "resume"))
    renewals: int = field(default=0, metadata=_shown(_REPLACED, "renewal"))
    late_answers: int = field(default=0, metadata=_shown(_LATE_ANSWERS))
    retries_empty: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.EMPTY))
    retries_text: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.TEXT))
    retries_filtered: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.FILTERED))
    retries_incomplete: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.INCOMPLETE))
    retries_failed: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.FAILED))
    retries_limit: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.LIMIT))
    retries_unheard: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.UNHEARD))
    retries_no_answer: int = field(default=0, metadata=_shown(_RETRIES, RetryKind.NO_ANSWER))
    provider_faults: int = field(default=0, metadata=_shown(_FAULTS))
    not_understood: int = field(default=0, metadata=_shown(_NOT_UNDERSTOOD))
    odd_empty: int = field(default=0, metadata=_shown(_ODD, OddKind.EMPTY))
    odd_binary: int = field(default=0, metadata=_shown(_ODD, OddKind.BINARY))
    odd_json: int = field(default=0, metadata=_shown(_ODD, OddKind.JSON))
    odd_type: int = field(default=0, metadata=_shown(_ODD, OddKind.TYPE))
    odd_field: int = field(default=0, metadata=_shown(_ODD, OddKind.FIELD))
    odd_audio: int = field(default=0, metadata=_shown(_ODD, OddKind.AUDIO))
    odd_size: int = field(default=0, metadata=_shown(_ODD, OddKind.SIZE))

    @property
    def retries(self) -> int:
        """How many answers were asked for again."""
        return sum(getattr(self, f"retries_{kind}") for kind in RetryKind)

    @property
    def odd(self) -> int:
        """How many messages of the provider could not be used."""
        return sum(getattr(self, f"odd_{kind}") for kind in OddKind)

    def count_retry(self, kind: RetryKind) -> None:
        """The agent was asked once more for an answer."""
        name = f"retries_{kind}"
        setattr(self, name, getattr(self, name) + 1)

    def count_odd(self, kind: OddKind) -> None:
        """The provider sent a message that cannot be used."""
        name = f"odd_{kind}"
        setattr(self, name, getattr(self, name) + 1)


WEBSOCKET, HTTP = "websocket", "http"
LEGS = (WEBSOCKET, HTTP)  # how Core's side is connected
CANCELLED = "cancelled"  # the cause of a call's end that is no `Cause`: the server gave it up
CONNECT_KINDS = ("first", "resume", "renewal")
CONNECT_RESULTS = ("ready", "refused", "timeout", "lost", "protocol", "closed", "given_up", "failed")
# The operator's URL, file or setting; the provider's own; what the call brought; a stored configuration.
PROMPT_SOURCES = ("url", "file", "text", "default", "call", "config")
TOKENS = tuple((way, kind) for way in ("in", "out") for kind in TOKEN_KINDS)
TOOL_RESULTS = ("done", "failed", "stopped")


# Answers whose times are kept for the median, 32 bytes each: some ten hours of conversation.
_MOST_ANSWERS = 4096


@dataclass(slots=True)
class AnswerTimes:
    """How soon the agent spoke in one call, and answered: `times` in seconds, of which the first ones are kept."""

    spoke_at: float | None = None  # when Core got the first audio of the call, by the call's clock
    count: int = 0
    longest: float | None = None
    times: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Core got the first audio of an answer, so long after the end of the caller's turn."""
        self.count += 1
        self.longest = max(self.longest or 0.0, seconds)
        if len(self.times) < _MOST_ANSWERS:
            self.times.append(seconds)


@dataclass(frozen=True, slots=True, eq=False)
class CallRecord:
    """A call under way. `counts` grows as it goes on."""

    leg: str
    counts: CallCounts


class Meter:
    """Takes what is measured; times in seconds. Nothing here waits or raises. This one measures nothing."""

    def call_began(self, call: CallRecord) -> None:
        """A call has begun."""

    def call_ended(self, call: CallRecord, cause: str, seconds: float, mood: str | None) -> None:
        """It is over: why, how long it took, and the caller's strongest emotion over all of it, if there was one."""

    def connected(self, kind: str, result: str, seconds: float) -> None:
        """A try to open a session is over; `kind` and `result` are those of the lists above."""

    def answered(self, seconds: float) -> None:
        """Core got the first audio of an answer, so long after the end of the caller's turn."""

    def stopped(self, seconds: float) -> None:
        """Core got an `interruption`, so long after the provider told of it."""

    def tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """A tool has come to its end."""

    def tokens_used(self, counts: Mapping[tuple[str, str], int]) -> None:
        """An answer has cost so many tokens, by direction and kind (see `providers.base.TokensUsed`)."""

    def rate_limited(self, name: str, limit: int, remaining: int, until: float) -> None:
        """The provider says how much the account may still use of a limit, until all of it is there again."""

    def heard(self, news: AgentNews, now: float) -> None:
        """The provider has told what does not matter to the conversation."""
        match news:
            case TokensUsed(counts=counts):
                self.tokens_used(counts)
            case RateLimit(name=name, limit=limit, remaining=remaining, resets=resets):
                self.rate_limited(name, limit, remaining, now + resets)

    def breaker_opened(self, is_open: bool) -> None:
        """From now on new calls are told at once that the provider refuses; or, if not `is_open`, no longer."""


class Attempt:
    """A try to open a session: it lasts until the session is ready, or its context is left. Reported once."""

    def __init__(self, meter: Meter, kind: str, clock: Callable[[], float]) -> None:
        self._meter = meter
        self._kind = kind
        self._clock = clock
        self._began = clock()
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if not self._over:
            self._report(self._meaning(exc))

    def ready(self) -> float:
        """The session is open. Return how long that took, in seconds."""
        self._over = True
        return self._report("ready")

    def _report(self, result: str) -> float:
        seconds = self._clock() - self._began
        self._meter.connected(self._kind, result, seconds)
        return seconds

    @staticmethod
    def _meaning(exc: BaseException | None) -> str:
        match exc:
            case None:
                return "closed"
            case ProviderRefused():
                return "refused"
            case ProviderTimeout():
                return "timeout"
            case ProviderLost():
                return "lost"
            case ProviderError():
                return "protocol"
            case Exception():
                return "failed"  # a fault of ours
            case _:
                return "given_up"  # nobody waits for it any more
