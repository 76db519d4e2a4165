"""How a call ended, and what it moved: values for the caller's side, the summary log line and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
