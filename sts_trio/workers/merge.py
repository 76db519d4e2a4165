"""The metrics of all workers as one text. Pure.

Counters and histograms are summed, and such a sum never falls (a counter that falls looks like a restart of it all):
what a worker that is gone, or mute, told last stays in. The sums are exact, and rounded once, since a float
that is added up in another order may come out smaller. Gauges are summed or the highest counts, by the tables here, of
those that were heard now. What stands in no table stays apart, with the label `worker`: `process_*`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

SUMMED_GAUGES = {
    "sts_calls_active",
    "sts_calls_limit",
    "sts_tasks",
    "sts_workers",
    "sts_workers_unheard",
}
HIGHEST_GAUGES = {
    "sts_accepting_calls",
    "sts_build_info",
    "sts_queue_peak_messages",
    "sts_queue_peak_seconds",
    "python_info",
}
_JOINED_GAUGES = SUMMED_GAUGES | HIGHEST_GAUGES

_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], Fraction]  # by a sample's name and labels


class Ledger(Collector):
    """What the workers, and the switch itself, have told, by their names."""

    def __init__(self) -> None:
        self._told: dict[str, list[Metric]] = {}
        self._gone: dict[str, _Samples] = {}  # by family
        self._kinds: dict[str, tuple[str, str]] = {}  # meaning and type of every family, in the order they came
        self._heard: Collection[str] = ()

    def hear(self, name: str, text: str) -> None:
        """Take what `name` tells of itself now."""
        self._told[name] = list(text_string_to_metric_families(text))
        for family in self._told[name]:
            self._kinds.setdefault(family.name, (family.documentation, family.type))

    def bury(self, name: str) -> None:
        """`name` is gone: its sums stay. Another of that name begins at nothing."""
        for family in self._told.pop(name, ()):
            if _is_sum(family):
                _join(self._gone.setdefault(family.name, {}), family)

    def page(self, heard: Collection[str]) -> bytes:
        """Return the text of all; `heard` are those whose word is of now."""
        self._heard = heard
        return generate_latest(self)

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        samples: dict[str, _Samples] = {name: dict(self._gone.get(name, {})) for name in self._kinds}
        for name, families in self._told.items():
            for family in families:
                if _is_sum(family):
                    _join(samples[family.name], family)
                elif name in self._heard:
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
    """Add the samples of a family to others, or put them beside them, with the label `apart`."""
    for sample in family.samples:
        labels = tuple(sample.labels.items()) + ((("worker", apart),) if apart is not None else ())
        value, before = Fraction(sample.value), samples.get((sample.name, labels))
        if before is None:
            samples[sample.name, labels] = value
        else:
            samples[sample.name, labels] = max(before, value) if family.name in HIGHEST_GAUGES else before + value
