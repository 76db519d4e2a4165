"""One scrape for all workers: the supervisor collects the metrics of each, and merges them into one text.

Counters and histograms are summed, and such a sum never falls (a counter that falls looks like a restart of the whole
service): the last values of a worker that has died, or does not answer, stay in. Sums are exact, and rounded once,
since floats that are added up in another order may give a smaller sum. Gauges count only from workers that answered
this scrape; they are summed, or the highest or lowest is taken, by the tables here. Metrics in no table (`process_*`)
stay apart, with the label `worker`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import structlog
import trio
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sts_trio.workers.channel import Scrape

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from sts_trio.workers.pool import WorkerPool, WorkerSlot

log = structlog.get_logger(__name__)

WORKER_SECONDS = 2.0  # for the workers to answer a scrape
_SUPERVISOR = "supervisor"  # its own name among the workers

SUMMED_GAUGES = {
    "sts_calls_active",
    "sts_calls_limit",
    "sts_tasks",
    "sts_workers",
    "sts_workers_unheard",
}
HIGHEST_GAUGES = {
    "sts_accepting_calls",
    "sts_breaker_open",
    "sts_build_info",
    "python_info",
}
LOWEST_GAUGES = {  # of the whole account's: who heard of it last is not known, and the lowest is the safest
    "sts_rate_limit",
    "sts_rate_limit_remaining",
}
_JOINED_GAUGES = SUMMED_GAUGES | HIGHEST_GAUGES | LOWEST_GAUGES

_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], Fraction]  # by a sample's name and labels


class MergedMetrics(Collector):
    """The metrics of the workers and of the supervisor, by name, merged into one text. Neither waits nor knows time."""

    def __init__(self) -> None:
        self._latest: dict[str, list[Metric]] = {}
        self._retired: dict[str, _Samples] = {}  # by family: the sums of processes that have ended
        self._kinds: dict[str, tuple[str, str]] = {}  # meaning and type of every family, in the order they came
        self._answered: Collection[str] = ()

    def update(self, name: str, text: str) -> None:
        """Take the current metrics of the process called `name`.

        Raises:
            ValueError: they are not in Prometheus' text format.
        """
        self._latest[name] = list(text_string_to_metric_families(text))
        for family in self._latest[name]:
            self._kinds.setdefault(family.name, (family.documentation, family.type))

    def retire(self, name: str) -> None:
        """The process called `name` has ended: its sums stay. Another of that name begins at zero."""
        for family in self._latest.pop(name, ()):
            if _is_sum(family):
                _join(self._retired.setdefault(family.name, {}), family)

    def render(self, answered: Collection[str]) -> bytes:
        """Return the text of all; `answered` are the names whose metrics are current."""
        self._answered = answered
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        samples: dict[str, _Samples] = {name: dict(self._retired.get(name, {})) for name in self._kinds}
        for name, families in self._latest.items():
            for family in families:
                if _is_sum(family):
                    _join(samples[family.name], family)
                elif name in self._answered:
                    _join(samples[family.name], family, apart=None if family.name in _JOINED_GAUGES else name)
        for name, (meaning, kind) in self._kinds.items():
            whole = Metric(name, meaning, kind)
            for (sample, labels), value in samples[name].items():
                whole.add_sample(sample, dict(labels), float(value))
            if whole.samples:
                yield whole


def _is_sum(family: Metric) -> bool:
    """Whether it is of the kind that must never fall. The process's own counters are not added up."""
    return family.type in ("counter", "histogram") and not family.name.startswith("process_")


def _join(samples: _Samples, family: Metric, apart: str | None = None) -> None:
    """Add the samples of a family to those of others; or, with `apart`, put them beside, under that `worker` label."""
    for sample in family.samples:
        labels = tuple(sample.labels.items()) + ((("worker", apart),) if apart is not None else ())
        value, before = Fraction(sample.value), samples.get((sample.name, labels))
        if before is None:
            samples[sample.name, labels] = value
        else:
            samples[sample.name, labels] = _choose(family.name, before, value)


def _choose(name: str, one: Fraction, other: Fraction) -> Fraction:
    """Make one of two samples of the same series, from two processes."""
    if name in HIGHEST_GAUGES:
        return max(one, other)
    return min(one, other) if name in LOWEST_GAUGES else one + other


class MetricsCollector(Collector):
    """Answers scrapes: asks all workers for their metrics, waits `WORKER_SECONDS` at most, and sends the merged text.

    As a `Collector` it is the supervisor's own metrics about the workers.
    """

    def __init__(self, pool: WorkerPool, lines_dropped: Callable[[], int] = lambda: 0) -> None:
        self.restarts = 0
        self._pool = pool
        self._lines_dropped = lines_dropped
        self._merged = MergedMetrics()
        self._waiting: set[WorkerSlot] = set()  # workers that want the metrics of all
        self._number = 0
        self._answered: set[WorkerSlot] = set()
        self._changed = trio.lowlevel.ParkingLot()
        self._own = CollectorRegistry(auto_describe=False)
        self._own.register(self)
        ProcessCollector(registry=self._own)

    def on_request(self, slot: WorkerSlot) -> None:
        """A worker wants the metrics of all."""
        self._waiting.add(slot)
        self._changed.unpark_all()

    def on_result(self, slot: WorkerSlot, scrape: int, text: bytes) -> None:
        """A worker has sent its metrics. Late ones are used as well, since their sums count."""
        try:
            self._merged.update(slot.name, text.decode())
        except ValueError as exc:
            log.error("the metrics of a worker cannot be read", worker=slot.number, problem=str(exc))
            return
        if scrape == self._number:
            self._answered.add(slot)
            self._changed.unpark_all()

    def retire(self, slot: WorkerSlot) -> None:
        """The process of a worker has ended."""
        self._merged.retire(slot.name)
        self._answered.discard(slot)
        self._waiting.discard(slot)
        self._changed.unpark_all()

    async def run(self) -> None:
        """Answer for ever. Requests that come during a round are answered in the next one."""
        while True:
            while not self._waiting:
                await self._changed.park()
            waiting, self._waiting = self._waiting, set()
            text = await self._gather()
            for slot in waiting:
                if slot.channel is not None:
                    slot.channel.send_text(text, self._number)

    async def _gather(self) -> bytes:
        self._number += 1
        self._answered.clear()
        asked = {slot for slot in self._pool.running if slot.send(Scrape(self._number))}
        with trio.move_on_after(WORKER_SECONDS):
            while (asked & set(self._pool.running)) - self._answered:
                await self._changed.park()
        self._merged.update(_SUPERVISOR, generate_latest(self._own).decode())
        return self._merged.render({_SUPERVISOR, *(slot.name for slot in self._answered)})

    def collect(self) -> Iterator[Metric]:
        """See `Collector`: the supervisor's own metrics about the workers."""
        running = self._pool.running
        unheard = [slot for slot in running if slot not in self._answered]
        yield GaugeMetricFamily("sts_workers", "Worker processes that are there", value=len(running))
        yield GaugeMetricFamily(
            "sts_workers_unheard", "Worker processes that did not answer this scrape in time", value=len(unheard)
        )
        yield CounterMetricFamily(
            "sts_worker_restarts", "Worker processes that died, and that others took the place of", value=self.restarts
        )
        dropped = self._lines_dropped()  # by the supervisor's own log; those of the workers' are added
        yield CounterMetricFamily("sts_log_lines_dropped", "Log lines that could not be written", value=dropped)
