"""The metrics of all workers as one text: sums that are exact and never fall, whoever dies or stays mute."""

from __future__ import annotations

import re
from fractions import Fraction
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.call.handler import Registry
from sts_trio.call.meter import HTTP, WEBSOCKET, CallCounts, CallRecord
from sts_trio.metrics import Metrics
from sts_trio.workers.metrics import HIGHEST_GAUGES, LOWEST_GAUGES, SUMMED_GAUGES, MergedMetrics, MetricsCollector
from sts_trio.workers.pool import WorkerPool
from tests.fakes.metrics import used


def samples(text: str | bytes) -> dict[str, float]:
    """Samples by name and labels."""
    plain = text.decode() if isinstance(text, bytes) else text
    return {
        " ".join((sample.name, *(f"{name}={value}" for name, value in sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(plain)
        for sample in family.samples
    }


def counter(value: float, gauge: float = 0) -> str:
    return (
        f'# HELP sts_a_total How many\n# TYPE sts_a_total counter\nsts_a_total{{leg="x"}} {value!r}\n'
        f"# HELP sts_tasks Tasks\n# TYPE sts_tasks gauge\nsts_tasks {gauge!r}\n"
    )


async def test_sums_highest_values_and_what_stays_apart() -> None:
    merged, pages = MergedMetrics(), []
    for number in (1, 2):
        metrics = Metrics(Registry(10 + number), "1.2.3")
        for leg in (WEBSOCKET, HTTP)[:number]:
            metrics.call_began(CallRecord(leg, CallCounts(upstream_seconds=0.02)))
        metrics.answered(0.2 * number)
        metrics.rate_limited("tokens", 40_000, 10_000 * number, inf)
        pages.append(metrics.scrape()[0])
        merged.update(str(number), pages[-1].decode())
    whole, one, two = samples(merged.render({"1", "2"})), samples(pages[0]), samples(pages[1])
    assert whole["sts_calls_active leg=websocket"] == 2
    assert whole["sts_calls_active leg=http"] == 1
    assert whole["sts_calls_limit"] == 23
    assert whole["sts_audio_seconds_total direction=to_provider"] == 0.06
    assert whole["sts_rate_limit_remaining limit=tokens"] == 10_000
    assert whole["sts_accepting_calls"] == whole["sts_build_info version=1.2.3"] == 1
    assert [whole[f"sts_turn_latency_seconds_bucket le={le}"] for le in ("0.1", "0.25", "0.5", "+Inf")] == [0, 1, 2, 2]
    assert whole["sts_turn_latency_seconds_count"] == 2
    assert whole["process_open_fds worker=1"] == one["process_open_fds"]
    assert whole["process_cpu_seconds_total worker=2"] == two["process_cpu_seconds_total"]
    assert "process_open_fds" not in whole


async def test_one_worker_alone_is_told_as_it_tells_itself() -> None:
    text = used().scrape()[0]
    merged = MergedMetrics()
    merged.update("1", text.decode())
    whole = {re.sub(" worker=1$", "", name): value for name, value in samples(merged.render({"1"})).items()}
    assert whole == samples(text)
    types = re.findall(rb"^# (?:TYPE|HELP) .*$", text, re.MULTILINE)
    assert re.findall(rb"^# (?:TYPE|HELP) .*$", merged.render({"1"}), re.MULTILINE) == types


async def test_every_gauge_of_ours_is_in_a_table() -> None:
    families = [*used().registry.collect(), *MetricsCollector(WorkerPool([0])).collect()]
    gauges = {family.name for family in families if family.type == "gauge" and not family.name.startswith("process_")}
    assert gauges == SUMMED_GAUGES | HIGHEST_GAUGES | LOWEST_GAUGES
    assert len(gauges) == len(SUMMED_GAUGES) + len(HIGHEST_GAUGES) + len(LOWEST_GAUGES)


def test_a_worker_that_is_mute_or_gone_takes_its_gauges_with_it_and_leaves_its_sums() -> None:
    merged = MergedMetrics()
    merged.update("1", counter(5, gauge=7))
    merged.update("2", counter(6, gauge=8))
    assert samples(merged.render({"2"})) == {"sts_a_total leg=x": 11, "sts_tasks": 8}
    merged.retire("1")
    assert samples(merged.render({"2"})) == {"sts_a_total leg=x": 11, "sts_tasks": 8}
    merged.update("1", counter(1, gauge=1))
    assert samples(merged.render({"1", "2"})) == {"sts_a_total leg=x": 12, "sts_tasks": 9}
    merged.retire("3")  # died before it told anything


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["tell", "die", "scrape"]), st.floats(0, 1e9, allow_nan=False)),
    max_size=40,
)


@given(STEPS)
def test_a_sum_is_exact_and_never_falls_whoever_dies_when(steps: list[tuple[int, str, float]]) -> None:
    merged, living, dead, shown = MergedMetrics(), dict[int, float](), Fraction(0), 0.0
    for who, step, more in steps:
        if step == "tell":
            living[who] = living.get(who, 0.0) + more
            merged.update(str(who), counter(living[who]))
        elif step == "die":
            dead += Fraction(living.pop(who, 0.0))
            merged.retire(str(who))
        else:
            now = samples(merged.render({str(who)})).get("sts_a_total leg=x", 0.0)
            assert now == float(dead + sum(map(Fraction, living.values())))
            assert now >= shown
            shown = now


@pytest.mark.parametrize("value", ["a\\b", 'say "x"', "two\nlines", "ümlaut", "}"])
async def test_no_label_breaks_the_text(value: str) -> None:
    metrics = Metrics(Registry(), value)
    merged = MergedMetrics()
    merged.update("1", metrics.scrape()[0].decode())
    assert samples(merged.render({"1"}))[f"sts_build_info version={value}"] == 1
