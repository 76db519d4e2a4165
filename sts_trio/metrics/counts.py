"""What calls count for themselves (`call.outcome.CallCounts`), as series: of ended calls and live ones, added up.

Sums of audio are kept as whole bytes: a float that is added up in another order may come out smaller, and a counter
that falls looks like a restart.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.call.meter import LEGS, CallCounts
from sts_trio.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from sts_trio.call.meter import CallRecord


@dataclass(frozen=True, slots=True)
class FromCounts:
    """A series made of fields of `CallCounts`: a field for each value of its label, or one for no label.

    A peak is the highest that any call has had; everything else is a sum.
    """

    name: str
    meaning: str
    label: str | None
    fields: dict[str, str]
    peak: bool = False


FROM_COUNTS = (
    FromCounts(
        "sts_audio_seconds",
        "Call audio that was sent: the caller's to the provider, the agent's to Core; 50 frames, 16000 bytes a second",
        "direction",
        {"to_provider": "upstream_seconds", "to_core": "written_seconds"},
    ),
    FromCounts(
        "sts_agent_audio_received_seconds",
        "Agent audio that the provider sent and the playout took; what a barge-in took back is in it",
        None,
        {"": "downstream_seconds"},
    ),
    FromCounts(
        "sts_audio_dropped_seconds",
        "Call audio dropped because a queue was full, or (too_fast) because a caller sent more than real time",
        "queue",
        {
            "to_provider": "upstream_dropped_seconds",
            "to_core": "downstream_dropped_seconds",
            "too_fast": "upstream_excess_seconds",
        },
    ),
    FromCounts(
        "sts_messages_dropped",
        "Transcripts and other messages dropped because Core does not read",
        "queue",
        {"to_core": "messages_dropped"},
    ),
    FromCounts(
        "sts_queue_peak_seconds",
        "The most audio that ever waited in a call's queue",
        "queue",
        {"to_provider": "upstream_peak_seconds", "to_core": "downstream_peak_seconds"},
        peak=True,
    ),
    FromCounts(
        "sts_queue_peak_messages",
        "The most messages that ever waited in a call's queue",
        "queue",
        {"to_core": "messages_peak"},
        peak=True,
    ),
    FromCounts("sts_turns", "Finished turns", "role", {"user": "user_turns", "agent": "agent_turns"}),
    FromCounts("sts_interruptions", "Barge-ins that Core was told of", None, {"": "interruptions"}),
    FromCounts(
        "sts_late_chunks",
        "Chunks of an interrupted reply that came after the barge-in, and were thrown away",
        None,
        {"": "stale_chunks"},
    ),
    FromCounts(
        "sts_stale_audio_frames",
        "Frames of an interrupted reply that were sent to Core after the barge-in: must stay 0",
        None,
        {"": "stale_frames_sent"},
    ),
    FromCounts("sts_keys", "Keys that callers pressed", None, {"": "digits"}),
    FromCounts("sts_tool_calls", "Tools that agents asked for", None, {"": "tool_calls"}),
    FromCounts("sts_emotion_rules_fired", "Times that one of EMOTION_RULES fired", None, {"": "rules_fired"}),
    FromCounts(
        "sts_sessions_replaced",
        "Provider sessions that another took the place of in mid-call: after a break, or before its limit",
        "kind",
        {"resume": "resumes", "renewal": "renewals"},
    ),
    FromCounts(
        "sts_late_answers",
        "Turns of callers that the agent had not begun to answer after ANSWER_SECONDS",
        None,
        {"": "late_answers"},
    ),
    FromCounts("sts_provider_faults", "Errors that the provider reported", None, {"": "provider_faults"}),
    FromCounts("sts_not_understood", "Messages of Core that were not understood", None, {"": "not_understood"}),
)
TOLD_ELSEWHERE = {"tools_failed"}  # by sts_tool_runs_total
IN_SECONDS = {each.name for each in fields(CallCounts) if each.name.endswith("_seconds")}


def _units(name: str, counts: CallCounts) -> int:
    """A count as a whole number: of bytes, where it is in seconds."""
    value: float = getattr(counts, name)
    return round(value * BYTES_PER_SECOND) if name in IN_SECONDS else int(value)


class CallTotals:
    """Adds up the counts of all calls there have been."""

    def __init__(self) -> None:
        self._live: set[CallRecord] = set()
        self._started: Tally[str] = Tally()
        self._sums: Tally[str] = Tally()  # of calls that have ended, by field
        self._peaks: Tally[str] = Tally()

    def began(self, call: CallRecord) -> None:
        """A call has begun; its counts grow from now on."""
        self._live.add(call)
        self._started[call.leg] += 1

    def ended(self, call: CallRecord) -> None:
        """Keep its counts, and not the call."""
        self._live.remove(call)
        for series in FROM_COUNTS:
            for name in series.fields.values():
                units = _units(name, call.counts)
                if series.peak:
                    self._peaks[name] = max(self._peaks[name], units)
                else:
                    self._sums[name] += units

    def calls(self) -> Iterator[Metric]:
        """How many calls there have been, and are."""
        yield counter("sts_calls_started", "Calls that began", "leg", {leg: self._started[leg] for leg in LEGS})
        live = Tally(call.leg for call in self._live)
        yield gauge("sts_calls_active", "Calls that are running", "leg", {leg: live[leg] for leg in LEGS})

    def counts(self) -> Iterator[Metric]:
        """The series of `FROM_COUNTS`."""
        for series in FROM_COUNTS:
            make = gauge if series.peak else counter
            values = {value: self._total(name, peak=series.peak) for value, name in series.fields.items()}
            yield make(series.name, series.meaning, series.label, values)

    def _total(self, name: str, *, peak: bool) -> float:
        live = (_units(name, call.counts) for call in self._live)
        units = max((self._peaks[name], *live)) if peak else self._sums[name] + sum(live)
        return units / BYTES_PER_SECOND if name in IN_SECONDS else units
