"""What operators measure the service by: `GET /metrics`, in Prometheus' text format.

Nothing is done here for a frame. Calls count for themselves (`call.meter.CallCounts`), and name the series that show
it; a scrape adds up what ended calls left and what live ones have so far. Sums of audio are kept as whole bytes: a
float that is added up in another order may come out smaller, and a counter that falls looks like a restart.

Labels never hold what comes from a caller. Their values are in snake_case, but for the names of tools, which are the
operator's own files. Emotions are the provider's words; beyond `MOST_EMOTIONS` of them they are ``other``.
"""

from __future__ import annotations

import re
from collections import Counter as Tally
from dataclasses import fields
from typing import TYPE_CHECKING

import structlog
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
from sts_trio.call.handler import OTHER_REASONS, REASONS
from sts_trio.call.meter import (
    CANCELLED,
    CONNECT_KINDS,
    CONNECT_RESULTS,
    LEGS,
    TOKENS,
    TOOL_RESULTS,
    CallCounts,
    Cause,
    Meter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from sts_trio.call.handler import Registry, Shedder
    from sts_trio.call.meter import CallRecord, Series

log = structlog.get_logger(__name__)

MOST_EMOTIONS = 64  # EVI has 48
_TURN_BUCKETS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10)
_STOP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1)
_CONNECT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_TOOL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 60)
_CALL_BUCKETS = (10, 30, 60, 120, 300, 600, 1800, 3600, 14_400)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
STEP_SECONDS = 0.05  # twenty measurements a second cost nothing, and a second of trouble is seen in all of them


def _series() -> dict[Series, dict[str, str]]:
    """Return the series that `CallCounts` names, each with the field for each value of its label."""
    found: dict[Series, dict[str, str]] = {}
    for each in fields(CallCounts):
        if each.metadata:
            found.setdefault(each.metadata["series"], {})[each.metadata["value"]] = each.name
    return found


SERIES = _series()
IN_SECONDS = {each.name for each in fields(CallCounts) if each.name.endswith("_seconds")}


def _units(name: str, counts: CallCounts) -> int:
    """A count as a whole number: of bytes, where it is in seconds."""
    value: float = getattr(counts, name)
    return round(value * BYTES_PER_SECOND) if name in IN_SECONDS else int(value)


def _shown(name: str, units: int) -> float:
    """The same as it is shown: in seconds, where the count is."""
    return units / BYTES_PER_SECOND if name in IN_SECONDS else units


def _of_calls(series: Series, names: dict[str, str]) -> Histogram:
    """Make the histogram of a series that has a label; every value of it is shown from the beginning."""
    made = histogram(series.name, series.meaning, series.buckets, series.label or "")
    for value in names:
        made.labels(value)
    return made


class CallTotals:
    """Adds up the counts of all calls there have been."""

    def __init__(self) -> None:
        self._live: set[CallRecord] = set()
        self._started: Tally[str] = Tally()
        self._sums: Tally[str] = Tally()  # of calls that have ended, by field
        self._peaks = {series: _of_calls(series, names) for series, names in SERIES.items() if series.buckets}

    def began(self, call: CallRecord) -> None:
        """A call has begun; its counts grow from now on."""
        self._live.add(call)
        self._started[call.leg] += 1

    def ended(self, call: CallRecord) -> None:
        """Keep its counts, and not the call."""
        self._live.remove(call)
        for names in SERIES.values():
            for name in names.values():
                self._sums[name] += _units(name, call.counts)
        for series, peaks in self._peaks.items():
            for value, name in SERIES[series].items():
                peaks.labels(value).observe(_shown(name, _units(name, call.counts)))

    def calls(self) -> Iterator[Metric]:
        """How many calls there have been, and are."""
        yield counter("sts_calls_started", "Calls that began", "leg", {leg: self._started[leg] for leg in LEGS})
        live = Tally(call.leg for call in self._live)
        yield gauge("sts_calls_active", "Calls that are running", "leg", {leg: live[leg] for leg in LEGS})

    def counts(self) -> Iterator[Metric]:
        """The series that `CallCounts` names."""
        for series, names in SERIES.items():
            if series.buckets:
                yield from samples_of(self._peaks[series])
            else:
                totals = {value: self._total(name) for value, name in names.items()}
                yield counter(series.name, series.meaning, series.label, totals)

    def _total(self, name: str) -> float:
        return _shown(name, self._sums[name] + sum(_units(name, call.counts) for call in self._live))


class Metrics(Collector, Meter):
    """Measures what calls tell, and shows it. Used on the event loop only."""

    def __init__(self, calls: Registry, version: str, lines_dropped: Callable[[], int] = lambda: 0) -> None:
        self._calls = calls
        self._lines_dropped = lines_dropped
        self._version = version
        self._totals = CallTotals()
        self._emotions: set[str] = set()
        self._breaker_open = False
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
        self._tokens = Counter(
            "sts_tokens",
            "Tokens that answers have cost, each counted once; those that the provider had cached cost a fraction",
            ["direction", "kind"],
            registry=None,
        )
        # By name: all of it, what is left, and until when.
        self._rate_limits: dict[str, tuple[int, int, float]] = {}
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
        for way, kind in TOKENS:
            self._tokens.labels(way, kind)
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

    def offer(self, tools: Iterable[str]) -> None:
        """Show the runs of these tools from now on: what begins with a failure does not look like a rise."""
        for tool in tools:
            for each in TOOL_RESULTS:
                self._tool_runs.labels(tool, each)

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
            emotion = label_value(mood)
            if len(self._emotions) < MOST_EMOTIONS:
                self._emotions.add(emotion)
            self._moods.labels(emotion if emotion in self._emotions else "other").inc()

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
        self._tool_runs.labels(tool, result).inc()
        self._tool_seconds.observe(seconds)

    def tokens_used(self, counts: Mapping[tuple[str, str], int]) -> None:
        """See `Meter`."""
        for (direction, kind), count in counts.items():
            self._tokens.labels(direction, kind).inc(count)

    def rate_limited(self, name: str, limit: int, remaining: int, until: float) -> None:
        """See `Meter`."""
        self._rate_limits[name] = limit, remaining, until

    def breaker_opened(self, is_open: bool) -> None:
        """See `Meter`."""
        self._breaker_open = is_open

    def lagged(self, seconds: float) -> None:
        """The event loop was so late."""
        self._lag_seconds.observe(seconds)

    def _limits(self, now: float) -> Iterator[Metric]:
        """What the account may still use, as far as it was told. After its reset all of a limit is there again."""
        left = {name: all_ if now >= until else rest for name, (all_, rest, until) in self._rate_limits.items()}
        meaning = "What the account may still use of the provider for the moment, as it said with the last answer"
        yield gauge("sts_rate_limit_remaining", meaning, "limit", left)
        whole = {name: all_ for name, (all_, *_) in self._rate_limits.items()}
        yield gauge("sts_rate_limit", "What it may use in all until the limit's reset", "limit", whole)

    # What a scrape collects.

    def collect(self) -> Iterator[Metric]:
        """Put all series together. Must be called in the event loop's thread."""
        yield from self._totals.calls()
        yield gauge("sts_calls_limit", "MAX_CALLS; 0: no limit", None, {"": self._calls.most})
        counts = self._calls.refused.counts
        refused = {reason: counts[reason] for reason in REASONS}
        yield counter("sts_calls_refused", "Calls that were refused with 503, by reason", "reason", refused)
        others = {reason: counts[reason] for reason in OTHER_REASONS}
        yield counter("sts_refused", "What else was turned away at the door, by reason", "reason", others)
        ready = self._calls.refusal() is None
        yield gauge("sts_accepting_calls", "1: a new call would be taken now; 0: refused", None, {"": int(ready)})
        away = {"": int(self._breaker_open)}
        yield gauge("sts_breaker_open", "1: the provider refused call after call, and new ones are told so", None, away)
        yield from self._limits(trio.current_time())
        for own in (
            *(self._tokens, self._ended, self._call_seconds, self._moods, self._connects, self._connect_seconds),
            *(self._turn_seconds, self._stop_seconds, self._tool_runs, self._tool_seconds, self._lag_seconds),
        ):
            yield from samples_of(own)
        yield from self._totals.counts()
        dropped = self._lines_dropped()
        yield counter("sts_log_lines_dropped", "Log lines that could not be written", None, {"": dropped})
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield gauge("sts_tasks", "Tasks of the event loop, the server's own among them", None, {"": tasks})
        yield gauge("sts_build_info", "The version, as a label of the value 1", "version", {self._version: 1})


async def watch_lag(shedder: Shedder, observe: Callable[[float], None]) -> None:
    """Measure for ever. Every lag, in seconds, goes to `shedder` and `observe`."""
    while True:
        due = trio.current_time() + STEP_SECONDS
        await trio.sleep_until(due)
        now = trio.current_time()
        lag = max(now - due, 0.0)
        observe(lag)
        if shedder.feed(lag, now):
            lag_ms = round(lag * 1000)
            if shedder.shedding:
                log.warning("overloaded: new calls are refused until the event loop keeps time again", lag_ms=lag_ms)
            else:
                log.warning("no longer overloaded: new calls are taken again", lag_ms=lag_ms)


def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
    """Make a histogram that is in no registry."""
    return Histogram(name, meaning, labels, registry=None, buckets=buckets)


def samples_of(own: Counter | Histogram) -> Iterator[Metric]:
    """Collect one of the library's own. When a series was born is of no use here, and would be as many lines again."""
    for metric in own.collect():
        metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        yield metric


def label_value(words: str) -> str:
    """Write a provider's words in snake_case: `Surprise (positive)` is ``surprise_positive``."""
    return re.sub(r"\W+", "_", words.lower()).strip("_") or "other"


def counter(name: str, meaning: str, label: str | None, values: dict[str, float] | dict[str, int]) -> Metric:
    """Make a counter: its number for each value of its label, or for the empty value of none."""
    return _filled(CounterMetricFamily(name, meaning, labels=[label] if label else []), values)


def gauge(name: str, meaning: str, label: str | None, values: dict[str, float] | dict[str, int]) -> Metric:
    """Make a gauge, likewise."""
    return _filled(GaugeMetricFamily(name, meaning, labels=[label] if label else []), values)


def _filled(
    family: CounterMetricFamily | GaugeMetricFamily, values: dict[str, float] | dict[str, int]
) -> CounterMetricFamily | GaugeMetricFamily:
    for value, number in values.items():
        family.add_metric([value] if value else [], number)
    return family
