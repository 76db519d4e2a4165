"""Series of Prometheus, of what we count ourselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import Metric


def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
    """Make a histogram that is in no registry."""
    return Histogram(name, meaning, labels, registry=None, buckets=buckets)


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
