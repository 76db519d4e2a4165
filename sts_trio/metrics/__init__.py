"""What operators measure the service by: `GET /metrics`, in Prometheus' text format.

Nothing is done here for a frame. Calls count for themselves (`call.outcome.CallCounts`); a scrape adds up what ended
calls left and what live ones have so far (`counts`).

Labels never hold what comes from a caller. Tools are the operator's own files; emotions are the provider's words, and
beyond `MOST_EMOTIONS` of them they are ``other``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.registry import Collector

from sts_trio.call.handler import REASONS
from sts_trio.call.meter import CANCELLED, CONNECT_KINDS, CONNECT_RESULTS, LEGS, TOOL_RESULTS, Cause
from sts_trio.metrics.counts import CallTotals
from sts_trio.metrics.families import counter, gauge, histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from sts_trio.call.handler import Registry
    from sts_trio.call.meter import CallRecord

MOST_EMOTIONS = 64  # EVI has 48
_TURN_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_STOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1)
_CONNECT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_TOOL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 60)
_CALL_BUCKETS = (10, 30, 60, 120, 300, 600, 1800, 3600, 14_400)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics(Collector):
    """A `Meter`, and all that is shown of it. Used on the event loop only."""

    def __init__(self, calls: Registry, version: str) -> None:
        self._calls = calls
        self._version = version
        self._totals = CallTotals()
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
        self._call_seconds = histogram("sts_call_seconds", "How long calls were", _CALL_BUCKETS)
        self._connect_seconds = histogram(
            "sts_provider_connect_seconds",
            "From the decision to open a session until the agent can talk; successful tries only",
            _CONNECT_BUCKETS,
            "kind",
        )
        self._turn_seconds = histogram(
            "sts_turn_latency_seconds",
            "From the end of the caller's turn (as the provider tells it) until the first audio of the answer is sent",
            _TURN_BUCKETS,
        )
        self._stop_seconds = histogram(
            "sts_barge_in_stop_seconds", "From the provider's word of a barge-in until Core is told", _STOP_BUCKETS
        )
        self._tool_seconds = histogram("sts_tool_seconds", "How long tools ran", _TOOL_BUCKETS)
        self._lag_seconds = histogram(
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
        self._totals.began(call)

    def call_ended(self, call: CallRecord, cause: str, seconds: float, mood: str | None) -> None:
        """See `Meter`."""
        self._totals.ended(call)
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
        yield from self._totals.calls()
        yield gauge("sts_calls_limit", "MAX_CALLS; 0: no limit", None, {"": self._calls.most})
        refused = {reason: self._calls.refused[reason] for reason in REASONS}
        yield counter("sts_calls_refused", "Calls that were refused with 503, by reason", "reason", refused)
        ready = self._calls.refusal() is None
        yield gauge("sts_accepting_calls", "1: a new call would be taken now; 0: refused", None, {"": int(ready)})
        for own in (
            *(self._ended, self._call_seconds, self._moods, self._connects, self._connect_seconds),
            *(self._turn_seconds, self._stop_seconds, self._tool_runs, self._tool_seconds, self._lag_seconds),
        ):
            for metric in own.collect():
                # When a series was born is of no use here, and would be as many lines again.
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric
        yield from self._totals.counts()
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield gauge("sts_tasks", "Tasks of the event loop, the server's own among them", None, {"": tasks})
        yield gauge("sts_build_info", "The version, as a label of the value 1", "version", {self._version: 1})
