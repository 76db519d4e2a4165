"""What is shown of the metrics: sums that never fall, labels that stay few."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sts_trio.call.handler import Registry
from sts_trio.call.meter import HTTP, TOOL_RESULTS, WEBSOCKET, CallCounts, CallRecord
from sts_trio.main import build_shared
from sts_trio.metrics import IN_SECONDS, MOST_EMOTIONS, SERIES, Metrics
from tests.call.stage import make_settings
from tests.fakes.metrics import used

if TYPE_CHECKING:
    from pathlib import Path


def values(metrics: Metrics, prefix: str) -> dict[tuple[str, ...], float]:
    """Samples whose name begins so, by their labels' values."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if sample.name.startswith(prefix)
    }


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
    assert {name for series, names in SERIES.items() if series.buckets for name in names.values()} == {
        name for name in named if "peak" in name
    }
    assert all(series.label is None or "" not in names for series, names in SERIES.items())


async def test_provider_and_agents_cannot_make_up_labels_without_end() -> None:
    metrics = Metrics(Registry(), "0")
    for number in range(1000):
        call = CallRecord(WEBSOCKET, CallCounts())
        metrics.call_began(call)
        metrics.call_ended(call, "too_long", 1.0, f'emotion "{number}"\n')
    moods = values(metrics, "sts_call_moods_total")
    assert len(moods) == MOST_EMOTIONS + 1
    assert moods["other",] == 1000 - MOST_EMOTIONS
    assert sum(1 for _ in text_string_to_metric_families(metrics.scrape()[0].decode())) > 20


async def test_tools_that_are_offered_are_shown_before_they_have_run(tmp_path: Path) -> None:
    """A series whose first value is a failure does not rise, and no alert sees it."""
    shared = build_shared(make_settings(ami_url="http://127.0.0.1:9", tools_dir=str(tmp_path)))
    runs = values(shared.metrics, "sts_tool_runs_total")
    assert runs == {(tool, each): 0 for tool in ("dsai_transfer", "dsai_hangup") for each in TOOL_RESULTS}


async def test_the_legs_are_told_apart() -> None:
    metrics = Metrics(Registry(), "0")
    calls = [CallRecord(leg, CallCounts()) for leg in (WEBSOCKET, HTTP, HTTP)]
    for call in calls:
        metrics.call_began(call)
    metrics.call_ended(calls[1], "caller_hung_up", 1.0, None)
    assert values(metrics, "sts_calls_started_total") == {(WEBSOCKET,): 1, (HTTP,): 2}
    assert values(metrics, "sts_calls_active") == {(WEBSOCKET,): 1, (HTTP,): 1}
    assert values(metrics, "sts_calls_ended_total")["caller_hung_up", HTTP] == 1


async def test_a_peak_is_of_each_call_and_not_for_ever() -> None:
    metrics = Metrics(Registry(), "0")
    for waited, messages in ((0.02, 1), (9.0, 0), (0.06, 3)):
        call = CallRecord(WEBSOCKET, CallCounts(upstream_peak_seconds=waited, messages_peak=messages))
        metrics.call_began(call)
        metrics.call_ended(call, "too_long", 1.0, None)
    waits = values(metrics, "sts_queue_peak_seconds_bucket")
    assert [waits["to_provider", le] for le in ("0.02", "0.1", "5.0", "10.0", "+Inf")] == [1, 2, 2, 3, 3]
    assert waits["to_core", "0.02"] == 3
    assert values(metrics, "sts_queue_peak_messages_bucket")["to_core", "2.0"] == 2
    assert values(metrics, "sts_queue_peak_messages_sum") == {("to_core",): 4}


async def test_the_values_of_labels_are_in_snake_case() -> None:
    metrics = Metrics(Registry(), "0")
    for mood in ("Surprise (positive)", "Empathic Pain", "__", "Verärgert"):
        call = CallRecord(WEBSOCKET, CallCounts())
        metrics.call_began(call)
        metrics.call_ended(call, "too_long", 1.0, mood)
    moods = {value for (value,) in values(metrics, "sts_call_moods_total")}
    assert moods == {"surprise_positive", "empathic_pain", "other", "verärgert"}
    for family in text_string_to_metric_families(used().scrape()[0].decode()):
        for sample in family.samples:
            if family.name.startswith("sts_") and "version" not in sample.labels:
                found = {value for name, value in sample.labels.items() if name != "le"}
                assert not [value for value in found if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", value)]


STEPS = st.lists(st.tuples(st.sampled_from(["begin", "grow", "end"]), st.integers(0, 7), st.integers(1, 960_000)))


@given(STEPS)
def test_sums_are_exact_and_never_fall_while_calls_come_and_go(steps: list[tuple[str, int, int]]) -> None:
    """A sum that falls by a rounding error is taken for a restart, and the whole of it for what came since."""
    metrics, live, moved = Metrics(Registry(), "0"), list[CallRecord](), 0
    assert "upstream_seconds" in IN_SECONDS
    for step, which, size in steps:
        if step == "begin":
            live.append(CallRecord(WEBSOCKET, CallCounts()))
            metrics.call_began(live[-1])
        elif live and step == "grow":
            counts = live[which % len(live)].counts
            counts.upstream_seconds += 2 * size / 16_000
            moved += 2 * size
        elif live:
            metrics.call_ended(live.pop(which % len(live)), "too_long", 1.0, None)
        assert metrics._totals._total("upstream_seconds") == moved / 16_000


async def test_what_answers_cost_is_added_up_by_direction_and_kind() -> None:
    metrics = used()
    metrics.tokens_used({("in", "cached"): 36, ("in", "text"): 1})
    counts = {kind: count for kind, count in values(metrics, "sts_tokens_total").items() if count}
    assert counts == {("in", "cached"): 100, ("in", "text"): 1, ("out", "audio"): 91}


async def test_a_rate_limit_is_whole_again_after_its_reset(autojump_clock: trio.testing.MockClock) -> None:
    metrics = used()
    assert values(metrics, "sts_rate_limit_remaining") == {("tokens",): 39_000}
    await trio.sleep(5)
    assert values(metrics, "sts_rate_limit_remaining") == {("tokens",): 40_000}
    metrics.rate_limited("tokens", 40_000, 10, trio.current_time() + 60)
    assert values(metrics, "sts_rate_limit_remaining") == {("tokens",): 10}
    assert values(metrics, "sts_rate_limit")[("tokens",)] == 40_000
