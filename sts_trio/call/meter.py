"""How a call ended, what it moved, and what it tells whoever measures it. Pure.

What comes fifty times a second is counted in `CallCounts`, which a `CallRecord` shows to the measurer while the call
lasts; the rest is told a handful of times a turn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, Self

from sts_trio.errors import ProviderError, ProviderLost, ProviderRefused, ProviderTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from sts_trio.tools.tool import ToolResult


class Cause(StrEnum):
    """Why a call ended. One word for one thing in logs and metrics."""

    CALLER_HUNG_UP = "caller hung up"
    CALLER_LOST = "caller lost"
    CALLER_BROKE_PROTOCOL = "caller broke protocol"
    AGENT_ENDED = "agent ended"
    HUNG_UP = "hung up"
    PROVIDER_FAILED = "provider failed"
    CALLER_SILENT = "caller silent"
    NO_INIT = "no init"
    TOO_LONG = "too long"
    DRAINED = "drained"
    INTERNAL = "internal error"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """The end of a call. `code` closes Core's WebSocket; `message`, if any, is the `error` that Core hears before."""

    cause: Cause
    code: int
    message: str = ""

    @property
    def by_caller(self) -> bool:
        """Core's side has gone: there is nobody left to tell."""
        return self.cause in (Cause.CALLER_HUNG_UP, Cause.CALLER_LOST, Cause.CALLER_BROKE_PROTOCOL)


@dataclass(slots=True)
class CallCounts:
    """What one call moved and dropped. Seconds are of telephone audio; the rest are numbers of messages.

    Nothing here ever becomes less. A peak is the most that waited in a queue at once.
    """

    upstream_seconds: float = 0.0
    upstream_dropped_seconds: float = 0.0
    upstream_excess_seconds: float = 0.0
    downstream_seconds: float = 0.0
    downstream_dropped_seconds: float = 0.0
    written_seconds: float = 0.0
    upstream_peak_seconds: float = 0.0
    downstream_peak_seconds: float = 0.0
    messages_peak: int = 0
    messages_dropped: int = 0
    stale_frames_sent: int = 0
    interruptions: int = 0
    stale_chunks: int = 0
    user_turns: int = 0
    agent_turns: int = 0
    digits: int = 0
    tool_calls: int = 0
    tools_failed: int = 0
    rules_fired: int = 0
    resumes: int = 0
    renewals: int = 0
    late_answers: int = 0
    provider_faults: int = 0
    not_understood: int = 0


WEBSOCKET, HTTP = "websocket", "http"
LEGS = (WEBSOCKET, HTTP)  # how Core's side is connected
CANCELLED = "cancelled"  # the cause of a call's end that is no `Cause`: the server gave it up
CONNECT_KINDS = ("first", "resume", "renewal")
CONNECT_RESULTS = ("ready", "refused", "timeout", "lost", "protocol", "closed", "given up", "failed")
TOOL_RESULTS = ("done", "failed", "stopped")


@dataclass(frozen=True, slots=True, eq=False)
class CallRecord:
    """A call under way. `counts` grows as it goes on."""

    leg: str
    counts: CallCounts


class Meter(Protocol):
    """Takes what is measured; times in seconds. Nothing here waits or raises."""

    def call_began(self, call: CallRecord) -> None:
        """A call has begun."""
        ...

    def call_ended(self, call: CallRecord, cause: str, seconds: float, mood: str | None) -> None:
        """It is over: why, how long it took, and the caller's strongest emotion over all of it, if there was one."""
        ...

    def connected(self, kind: str, result: str, seconds: float) -> None:
        """A try to open a session is over; `kind` and `result` are those of the lists above."""
        ...

    def answered(self, seconds: float) -> None:
        """Core got the first audio of an answer, so long after the end of the caller's turn."""
        ...

    def stopped(self, seconds: float) -> None:
        """Core got an `interruption`, so long after the provider told of it."""
        ...

    def tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """A tool has come to its end."""
        ...


class NoMeter:
    """A `Meter` that measures nothing."""

    def call_began(self, call: CallRecord) -> None:
        """See `Meter`."""

    def call_ended(self, call: CallRecord, cause: str, seconds: float, mood: str | None) -> None:
        """See `Meter`."""

    def connected(self, kind: str, result: str, seconds: float) -> None:
        """See `Meter`."""

    def answered(self, seconds: float) -> None:
        """See `Meter`."""

    def stopped(self, seconds: float) -> None:
        """See `Meter`."""

    def tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """See `Meter`."""


class _Timed(ABC):
    """A stretch of work that is reported once: what came of it, and how long that took by `clock`."""

    def __init__(self, report: Callable[[str, float], None], clock: Callable[[], float]) -> None:
        self._report = report
        self._clock = clock
        self._began = clock()
        self._told = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        self._tell(self._meaning(exc))

    def _tell(self, result: str) -> None:
        if not self._told:
            self._told = True
            self._report(result, self._clock() - self._began)

    @abstractmethod
    def _meaning(self, exc: BaseException | None) -> str:
        """What the way means in which the context was left."""


class Attempt(_Timed):
    """A try to open a session: it lasts until the session is ready, or its context is left."""

    def __init__(self, meter: Meter, kind: str, clock: Callable[[], float]) -> None:
        super().__init__(lambda result, seconds: meter.connected(kind, result, seconds), clock)

    def ready(self) -> float:
        """The session is open. Return how long that took, in seconds."""
        self._tell("ready")
        return self._clock() - self._began

    def _meaning(self, exc: BaseException | None) -> str:
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
                return "given up"  # nobody waits for it any more


class ToolRun(_Timed):
    """A run of a tool: it lasts until it has a result, or its context is left."""

    def __init__(self, meter: Meter, tool: str, clock: Callable[[], float]) -> None:
        super().__init__(lambda result, seconds: meter.tool_ran(tool, result, seconds), clock)

    def ended(self, result: ToolResult) -> None:
        """The tool has come to its end."""
        self._tell("failed" if result.failed else "done")

    def _meaning(self, exc: BaseException | None) -> str:
        return "failed" if isinstance(exc, Exception) else "stopped"
