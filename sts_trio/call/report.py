"""What the log tells of one call: the line that it begins with, and the one that it ends with.

Both have the same fields, so that one question to the log finds every call: what has not happened is 0, empty or null.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING

import structlog

from sts_trio.call.meter import CANCELLED, Cause, Meter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sts_trio.call.emotions import Mood
    from sts_trio.call.meter import CallOutcome, CallRecord

log = structlog.get_logger(__name__)

_MOOD_SHOWN = 3  # the strongest emotions of the caller, over all of the call
_FAULTS = (Cause.PROVIDER_FAILED, Cause.CALLER_BROKE_PROTOCOL, Cause.NO_INIT, Cause.INTERNAL)
# Answers whose times are kept for the median, 32 bytes each: some ten hours of conversation.
_MOST_ANSWERS = 4096


class CallReport(Meter):
    """Gathers what one call tells its meter, and passes it on to `meter`, the service's."""

    def __init__(self, record: CallRecord, provider: str, meter: Meter) -> None:
        self._record = record
        self._provider = provider
        self._meter = meter
        self._session = ""
        self._prompt = ""
        self._init_at: float | None = None
        self._first_audio: float | None = None
        self._answered = 0
        self._answers: list[float] = []
        self._longest: float | None = None
        self._tools: Counter[str] = Counter()

    def began(self, now: float) -> None:
        """`init` has come; the first session is opened. Further ones change nothing."""
        if self._init_at is None:
            self._init_at = now
            log.info("call began", **self._fields())

    def ended(self, outcome: CallOutcome | None, lasted: float, mood: Mood) -> None:
        """The call is over after `lasted` seconds; `outcome` is None for one that was cancelled from outside."""
        cause = str(outcome.cause) if outcome else CANCELLED
        self._meter.call_ended(self._record, cause, lasted, next(iter(mood.strongest(1)), None))
        report = log.warning if outcome and outcome.cause in _FAULTS else log.info
        report(
            "call ended",
            cause=cause,
            code=outcome.code if outcome else None,
            message=outcome.message if outcome else "",
            seconds=round(lasted, 2),
            **self._fields(),
            **{name: round(value, 2) for name, value in asdict(self._record.counts).items()},
            mood=mood.strongest(_MOOD_SHOWN),
        )

    def _fields(self) -> dict[str, object]:
        """Times in ms; null for what has not happened."""
        return {
            "leg": self._record.leg,
            "provider": self._provider,
            "session": self._session,
            "prompt": self._prompt,
            "first_audio_ms": _ms(self._first_audio),
            "answers": self._answered,
            "answer_first_ms": _ms(self._answers[0] if self._answers else None),
            "answer_median_ms": _ms(median(self._answers) if self._answers else None),
            "answer_longest_ms": _ms(self._longest),
            "tools": dict(self._tools),
        }

    # What the call tells (`Meter`).

    def prompted(self, source: str) -> None:
        """See `Meter`."""
        self._prompt = source

    def session_opened(self, session: str) -> None:
        """See `Meter`."""
        self._session = session

    def spoke(self, now: float) -> None:
        """See `Meter`."""
        if self._init_at is not None and self._first_audio is None:
            self._first_audio = now - self._init_at

    def connected(self, kind: str, result: str, seconds: float) -> None:
        """See `Meter`."""
        self._meter.connected(kind, result, seconds)

    def answered(self, seconds: float) -> None:
        """See `Meter`."""
        self._answered += 1
        self._longest = max(self._longest or 0.0, seconds)
        if len(self._answers) < _MOST_ANSWERS:
            self._answers.append(seconds)
        self._meter.answered(seconds)

    def stopped(self, seconds: float) -> None:
        """See `Meter`."""
        self._meter.stopped(seconds)

    def tokens_used(self, counts: Mapping[tuple[str, str], int]) -> None:
        """See `Meter`."""
        self._meter.tokens_used(counts)

    def rate_limited(self, name: str, limit: int, remaining: int, until: float) -> None:
        """See `Meter`."""
        self._meter.rate_limited(name, limit, remaining, until)

    def tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """See `Meter`."""
        self._tools[tool] += 1
        self._meter.tool_ran(tool, result, seconds)


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
