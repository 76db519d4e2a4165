"""What the log tells of one call: the line that it begins with, and the one that it ends with.

Both have the same fields, so that one question to the log finds every call: what has not happened is 0, empty or null.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING

import structlog

from sts_trio.call.meter import CANCELLED, Cause

if TYPE_CHECKING:
    from sts_trio.call.emotions import Mood
    from sts_trio.call.meter import AnswerTimes, CallOutcome, CallRecord, Meter

log = structlog.get_logger(__name__)

_MOOD_SHOWN = 3  # the strongest emotions of the caller, over all of the call
_FAULTS = (Cause.PROVIDER_FAILED, Cause.CALLER_BROKE_PROTOCOL, Cause.NO_INIT, Cause.INTERNAL)


class CallReport:
    """What one call is, and what it has come to. `session`, `prompt` and `tools` are the call's to fill in.

    The service's `meter` is told of its end, as well.
    """

    def __init__(self, record: CallRecord, provider: str, answers: AnswerTimes, meter: Meter) -> None:
        self.session = ""  # the last that was ready; the provider calls it so
        self.prompt = ""  # where the agent's prompt comes from: one of `meter.PROMPT_SOURCES`
        self.tools: Counter[str] = Counter()  # how often each of them has run
        self._record = record
        self._provider = provider
        self._answers = answers
        self._meter = meter
        self._init_at: float | None = None

    def began(self, now: float) -> None:
        """`init` has come; the first session is about to be opened."""
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
        spoke_at, times = self._answers.spoke_at, self._answers.times
        return {
            "leg": self._record.leg,
            "provider": self._provider,
            "session": self.session,
            "prompt": self.prompt,
            "first_audio_ms": _ms(None if spoke_at is None or self._init_at is None else spoke_at - self._init_at),
            "answers": self._answers.count,
            "answer_first_ms": _ms(times[0] if times else None),
            "answer_median_ms": _ms(median(times) if times else None),
            "answer_longest_ms": _ms(self._answers.longest),
            "tools": dict(self.tools),
        }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)
