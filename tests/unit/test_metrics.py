"""What is shown of the metrics: the README's table, sums that never fall, labels that stay few."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.call.handler import Registry
from sts_trio.call.meter import HTTP, WEBSOCKET, CallCounts, CallRecord
from sts_trio.metrics import IN_SECONDS, MOST_EMOTIONS, SERIES, Metrics
from tests.fakes.metrics import used

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def values(metrics: Metrics, prefix: str) -> dict[tuple[str, ...], float]:
    """Samples whose name begins so, by their labels' values."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


def metrics_table(metrics: Metrics) -> str:
    """The README's table, made of what a scrape collects."""
    rows = ["| Series | Type | Labels | Meaning |", "|---|---|---|---|"]
    for family in metrics.registry.collect():
        if family.name.startswith("sts_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
            rows.append(f"| `{name}` | {family.type} | {', '.join(labels)} | {family.documentation} |")
    return "\n".join(rows)


async def test_the_readme_lists_every_series() -> None:
    _, begin, rest = README.partition("<!-- metrics -->")
    table, end, _ = rest.partition("<!-- /metrics -->")
    assert begin, "README.md has no <!-- metrics --> mark"
    assert end, "README.md has no <!-- /metrics --> mark"
    expected = metrics_table(used())
    assert table.strip() == expected, f"put this table into README.md:\n\n{expected}\n"


async def test_the_readmes_alerts_use_series_and_labels_that_are_there() -> None:
    names, labels = set(), set()
    for family in text_string_to_metric_families(used().scrape()[0].decode()):
        names |= {sample.name for sample in family.samples}
        labels |= {(sample.name, label, value) for sample in family.samples for label, value in sample.labels.items()}
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)]
    alerts = [rule for block in blocks for group in block.get("groups", ()) for rule in group["rules"]]
    assert len(alerts) == 3
    for alert in alerts:
        mentioned = re.findall(r"\b(sts_\w+)(?:\{(\w+)=\"([^\"]+)\"\})?", alert["expr"])
        assert mentioned
        for name, label, value in mentioned:
            assert name in names
            assert not label or (name, label, value) in labels
    [config] = [block for block in blocks if "scrape_configs" in block]
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == ["dsai-sts-humeai:6039"]


async def test_a_scrape_is_what_prometheus_reads_and_holds_the_process_too() -> None:
    text, content_type = used().scrape()
    assert content_type.startswith("text/plain")
    families = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"process_open_fds", "process_resident_memory_bytes", "python_info", "sts_tasks"} <= families
    assert not [name for name in families if name.endswith("_created")]
    assert b'sts_build_info{version="1.2.3"} 1.0' in text


def test_every_count_of_a_call_is_shown() -> None:
    named = [name for names in SERIES.values() for name in names.values()]
    told_elsewhere = {"tools_failed"}  # by sts_tool_runs_total
    assert sorted([*named, *told_elsewhere]) == sorted(each.name for each in fields(CallCounts))
    assert {name for series, names in SERIES.items() if series.peak for name in names.values()} == {
        name for name in named if "peak" in name
    }
    assert all(series.label is None or "" not in names for series, names in SERIES.items())


async def test_provider_and_agents_cannot_make_up_labels_without_end() -> None:
    metrics = Metrics(Registry(), "0")
    for number in range(1000):
        call = CallRecord(WEBSOCKET, CallCounts())
        metrics.call_began(call)
        metrics.call_ended(call, "too long", 1.0, f'emotion "{number}"\n')
    moods = values(metrics, "sts_call_moods_total")
    assert len(moods) == MOST_EMOTIONS + 1
    assert moods["other",] == 1000 - MOST_EMOTIONS
    assert sum(1 for _ in text_string_to_metric_families(metrics.scrape()[0].decode())) > 20


async def test_the_legs_are_told_apart() -> None:
    metrics = Metrics(Registry(), "0")
    calls = [CallRecord(leg, CallCounts()) for leg in (WEBSOCKET, HTTP, HTTP)]
    for call in calls:
        metrics.call_began(call)
    metrics.call_ended(calls[1], "caller hung up", 1.0, None)
    assert values(metrics, "sts_calls_started_total") == {(WEBSOCKET,): 1, (HTTP,): 2}
    assert values(metrics, "sts_calls_active") == {(WEBSOCKET,): 1, (HTTP,): 1}
    assert values(metrics, "sts_calls_ended_total")["caller hung up", HTTP] == 1


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "grow", "end"]), st.integers(0, 7), st.integers(1, 960_000)))


@given(STEPS)
def test_sums_are_exact_and_never_fall_while_calls_come_and_go(steps: list[tuple[str, int, int]]) -> None:
    """A sum that falls by a rounding error is taken for a restart, and the whole of it for what came since."""
    metrics, live, moved, most = Metrics(Registry(), "0"), list[CallRecord](), 0, 0.0
    assert "upstream_seconds" in IN_SECONDS
    for step, which, size in steps:
        if step == "begin":
            live.append(CallRecord(WEBSOCKET, CallCounts()))
            metrics.call_began(live[-1])
        elif live and step == "grow":
            counts = live[which % len(live)].counts
            counts.upstream_seconds += 2 * size / 16_000
            counts.upstream_peak_seconds = max(counts.upstream_peak_seconds, size / 8000)
            moved, most = moved + 2 * size, max(most, size / 8000)
        elif live:
            metrics.call_ended(live.pop(which % len(live)), "too long", 1.0, None)
        assert metrics._totals._total("upstream_seconds", peak=False) == moved / 16_000
        assert metrics._totals._total("upstream_peak_seconds", peak=True) == pytest.approx(most)
