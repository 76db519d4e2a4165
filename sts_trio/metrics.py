"""What operators measure the service by: `GET /metrics`, in Prometheus' text format.

Nothing is done here for a frame. Calls count for themselves (`call.outcome.CallCounts`); a scrape adds up what ended
calls left and what live ones have so far. Sums of audio are kept as whole bytes: a float that is added up in another
order may come out smaller, and a counter that falls looks like a restart.

Labels never hold what comes from a caller. Tools are the operator's own files; emotions are the provider's words, and
beyond `MOST_EMOTIONS` of them they are ``other``.
"""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import trio
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.call.admission import REASONS
from sts_trio.call.meter import CANCELLED, CONNECT_KINDS, CONNECT_RESULTS, LEGS, TOOL_RESULTS
from sts_trio.call.outcome import CallCounts, Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import Metric

    from sts_trio.call.meter import CallRecord
    from sts_trio.call.registry import Registry

MOST_EMOTIONS = 64  # EVI has 48
_TURN_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_STOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1)
_CONNECT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_TOOL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 60)
_CALL_BUCKETS = (10, 30, 60, 120, 300, 600, 1800, 3600, 14_400)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True, slots=True)
class _FromCounts:
    """A series made of fields of `CallCounts`: a field for each value of its label, or one for no label.

    A peak is the highest that any call has had; everything else is a sum.
    """

    name: str
    meaning: str
    label: str | None
    fields: dict[str, str]
    peak: bool = False


_FROM_COUNTS = (
    _FromCounts(
        "sts_audio_seconds",
        "Call audio that was sent: the caller's to the provider, the agent's to Core; 50 frames, 16000 bytes a second",
        "direction",
        {"to_provider": "upstream_seconds", "to_core": "written_seconds"},
    ),
    _FromCounts(
        "sts_agent_audio_received_seconds",
        "Agent audio that the provider sent and the playout took; what a barge-in took back is in it",
        None,
        {"": "downstream_seconds"},
    ),
    _FromCounts(
        "sts_audio_dropped_seconds",
        "Call audio dropped because a queue was full, or (too_fast) because a caller sent more than real time",
        "queue",
        {
            "to_provider": "upstream_dropped_seconds",
            "to_core": "downstream_dropped_seconds",
            "too_fast": "upstream_excess_seconds",
        },
    ),
    _FromCounts(
        "sts_messages_dropped",
        "Transcripts and other messages dropped because Core does not read",
        "queue",
        {"to_core": "messages_dropped"},
    ),
    _FromCounts(
        "sts_queue_peak_seconds",
        "The most audio that ever waited in a call's queue",
        "queue",
        {"to_provider": "upstream_peak_seconds", "to_core": "downstream_peak_seconds"},
        peak=True,
    ),
    _FromCounts(
        "sts_queue_peak_messages",
        "The most messages that ever waited in a call's queue",
        "queue",
        {"to_core": "messages_peak"},
        peak=True,
    ),
    _FromCounts("sts_turns", "Finished turns", "role", {"user": "user_turns", "agent": "agent_turns"}),
    _FromCounts("sts_interruptions", "Barge-ins that Core was told of", None, {"": "interruptions"}),
    _FromCounts(
        "sts_late_chunks",
        "Chunks of an interrupted reply that came after the barge-in, and were thrown away",
        None,
        {"": "stale_chunks"},
    ),
    _FromCounts(
        "sts_stale_audio_frames",
        "Frames of an interrupted reply that were sent to Core after the barge-in: must stay 0",
        None,
        {"": "stale_frames_sent"},
    ),
    _FromCounts("sts_keys", "Keys that callers pressed", None, {"": "digits"}),
    _FromCounts("sts_tool_calls", "Tools that agents asked for", None, {"": "tool_calls"}),
    _FromCounts("sts_emotion_rules_fired", "Times that one of EMOTION_RULES fired", None, {"": "rules_fired"}),
    _FromCounts(
        "sts_sessions_replaced",
        "Provider sessions that another took the place of in mid-call: after a break, or before its limit",
        "kind",
        {"resume": "resumes", "renewal": "renewals"},
    ),
    _FromCounts(
        "sts_late_answers",
        "Turns of callers that the agent had not begun to answer after ANSWER_SECONDS",
        None,
        {"": "late_answers"},
    ),
    _FromCounts("sts_provider_faults", "Errors that the provider reported", None, {"": "provider_faults"}),
    _FromCounts("sts_not_understood", "Messages of Core that were not understood", None, {"": "not_understood"}),
)
_TOLD_ELSEWHERE = {"tools_failed"}  # by sts_tool_runs_total
_IN_SECONDS = {each.name for each in fields(CallCounts) if each.name.endswith("_seconds")}


def _units(name: str, counts: CallCounts) -> int:
    """A count as a whole number: of bytes, where it is in seconds."""
    value: float = getattr(counts, name)
    return round(value * BYTES_PER_SECOND) if name in _IN_SECONDS else int(value)


class Metrics(Collector):
    """A `Meter`, and all that is shown of it. Used on the event loop only."""

    def __init__(self, calls: Registry, version: str) -> None:
        self._calls = calls
        self._version = version
        self._live: set[CallRecord] = set()
        self._started: Tally[str] = Tally()
        self._sums: Tally[str] = Tally()  # of calls that have ended, by field
        self._peaks: Tally[str] = Tally()
        self._emotions: set[str] = set()
        self._tools: set[str] = set()
        self._ended = Counter("sts_calls_ended", "Calls that ended, by cause", ["cause", "leg"], registry=None)
        self._moods = Counter(
            "sts_call_moods",
            "Calls that ended, by the caller's strongest emotion over all of the call",
            ["emotion"],
            registry=None,
        )
        self._connects = Counter(
            "sts_provider_connects", "Tries to open a session with the provider", ["kind", "result"], registry=None
        )
        self._tool_runs = Counter(
            "sts_tool_runs", "Runs of tools that came to an end", ["tool", "result"], registry=None
        )
        self._call_seconds = _histogram("sts_call_seconds", "How long calls were", _CALL_BUCKETS)
        self._connect_seconds = _histogram(
            "sts_provider_connect_seconds",
            "From the decision to open a session until the agent can talk; successful tries only",
            _CONNECT_BUCKETS,
            "kind",
        )
        self._turn_seconds = _histogram(
            "sts_turn_latency_seconds",
            "From the end of the caller's turn (as the provider tells it) until the first audio of the answer is sent",
            _TURN_BUCKETS,
        )
        self._stop_seconds = _histogram(
            "sts_barge_in_stop_seconds", "From the provider's word of a barge-in until Core is told", _STOP_BUCKETS
        )
        self._tool_seconds = _histogram("sts_tool_seconds", "How long tools ran", _TOOL_BUCKETS)
        self._lag_seconds = _histogram(
            "sts_event_loop_lag_seconds",
            "How late a task was that asked to be woken; 20 measurements a second",
            _LAG_BUCKETS,
        )
        for leg in LEGS:
            for cause in (*Cause, CANCELLED):
                self._ended.labels(cause, leg)
        for kind in CONNECT_KINDS:
            self._connect_seconds.labels(kind)
            for result in CONNECT_RESULTS:
                self._connects.labels(kind, result)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def scrape(self) -> tuple[bytes, str]:
        """Return all series as text, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    # What calls tell (`call.meter.Meter`).

    def call_began(self, call: CallRecord) -> None:
        """See `Meter`."""
        self._live.add(call)
        self._started[call.leg] += 1

    def call_ended(self, call: CallRecord, cause: str, seconds: float, mood: str | None) -> None:
        """See `Meter`."""
        self._live.remove(call)
        for series in _FROM_COUNTS:
            for name in series.fields.values():
                units = _units(name, call.counts)
                if series.peak:
                    self._peaks[name] = max(self._peaks[name], units)
                else:
                    self._sums[name] += units
        self._ended.labels(cause, call.leg).inc()
        self._call_seconds.observe(seconds)
        if mood is not None:
            if len(self._emotions) < MOST_EMOTIONS:
                self._emotions.add(mood)
            self._moods.labels(mood if mood in self._emotions else "other").inc()

    def connected(self, kind: str, result: str, seconds: float) -> None:
        """See `Meter`."""
        self._connects.labels(kind, result).inc()
        if result == "ready":
            self._connect_seconds.labels(kind).observe(seconds)

    def answered(self, seconds: float) -> None:
        """See `Meter`."""
        self._turn_seconds.observe(seconds)

    def stopped(self, seconds: float) -> None:
        """See `Meter`."""
        self._stop_seconds.observe(seconds)

    def tool_ran(self, tool: str, result: str, seconds: float) -> None:
        """See `Meter`."""
        if tool not in self._tools:
            self._tools.add(tool)
            for each in TOOL_RESULTS:
                self._tool_runs.labels(tool, each)
        self._tool_runs.labels(tool, result).inc()
        self._tool_seconds.observe(seconds)

    def lagged(self, seconds: float) -> None:
        """The event loop was so late."""
        self._lag_seconds.observe(seconds)

    # What a scrape collects.

    def collect(self) -> Iterator[Metric]:
        """Put all series together. Must be called in the event loop's thread."""
        yield _counter("sts_calls_started", "Calls that began", "leg", {leg: self._started[leg] for leg in LEGS})
        live = Tally(call.leg for call in self._live)
        yield _gauge("sts_calls_active", "Calls that are running", "leg", {leg: live[leg] for leg in LEGS})
        yield _gauge("sts_calls_limit", "MAX_CALLS; 0: no limit", None, {"": self._calls.most})
        refused = {reason: self._calls.refused[reason] for reason in REASONS}
        yield _counter("sts_calls_refused", "Calls that were refused with 503, by reason", "reason", refused)
        ready = self._calls.refusal() is None
        yield _gauge("sts_accepting_calls", "1: a new call would be taken now; 0: refused", None, {"": int(ready)})
        for own in (
            *(self._ended, self._call_seconds, self._moods, self._connects, self._connect_seconds),
            *(self._turn_seconds, self._stop_seconds, self._tool_runs, self._tool_seconds, self._lag_seconds),
        ):
            for metric in own.collect():
                # When a series was born is of no use here, and would be as many lines again.
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric
        for series in _FROM_COUNTS:
            make = _gauge if series.peak else _counter
            values = {value: self._total(name, peak=series.peak) for value, name in series.fields.items()}
            yield make(series.name, series.meaning, series.label, values)
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield _gauge("sts_tasks", "Tasks of the event loop, the server's own among them", None, {"": tasks})
        yield _gauge("sts_build_info", "The version, as a label of the value 1", "version", {self._version: 1})

    def _total(self, name: str, *, peak: bool) -> float:
        live = (_units(name, call.counts) for call in self._live)
        units = max((self._peaks[name], *live)) if peak else self._sums[name] + sum(live)
        return units / BYTES_PER_SECOND if name in _IN_SECONDS else units


def _histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
    return Histogram(name, meaning, labels, registry=None, buckets=buckets)


def _counter(name: str, meaning: str, label: str | None, values: dict[str, float] | dict[str, int]) -> Metric:
    return _filled(CounterMetricFamily(name, meaning, labels=[label] if label else []), values)


def _gauge(name: str, meaning: str, label: str | None, values: dict[str, float] | dict[str, int]) -> Metric:
    return _filled(GaugeMetricFamily(name, meaning, labels=[label] if label else []), values)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: dict[str, float] | dict[str, int]
) -> CounterMetricFamily | GaugeMetricFamily:
    for value, number in values.items():
        family.add_metric([value] if value else [], number)
    return family
