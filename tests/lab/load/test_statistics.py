"""Results of a load: quantiles, what a run comes to, medians, limits."""

from __future__ import annotations

from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.load.histogram import Histogram
from sts_trio.lab.load.limits import Limits, exceeded
from sts_trio.lab.load.plan import AgentsDone, CallersDone, DownCall, Plan, UpCall
from sts_trio.lab.load.results import Measured, Results, medians_of, results_of
from sts_trio.lab.load.show import ratios

times = st.lists(st.floats(2e-6, 100.0), min_size=1, max_size=200)


def _histogram(values: list[float]) -> Histogram:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(times, st.floats(0.01, 1.0))
def test_a_quantile_is_right_to_within_two_percent(values: list[float], share: float) -> None:
    exact = sorted(values)[max(ceil(share * len(values)), 1) - 1]
    assert _histogram(values).quantile(share) == pytest.approx(exact, rel=0.02)
    assert _histogram(values).quantile(1.0) == max(values)


def test_no_times_have_no_quantile_and_times_of_nothing_count() -> None:
    assert Histogram().quantile(0.5) is None
    assert _histogram([0.0, 0.0]).quantile(0.5) == 0.0


PLAN = Plan(
    url="ws://host:6039/?from=004930",
    calls=2,
    seconds=10.0,
    ramp=50.0,
    settle=1.0,
    profile="talk",
    mark=1,
    provider="humeai",
    rate=48_000,
    host="127.0.0.1",
    port=1,
    tls="",
    times="",
)
USED = Measured(
    seconds=10.0,
    server_cpu=0.08,
    memory_before=50 << 20,
    memory_after=(50 << 20) + 512 * 1024,
    callers_cpu=1.0,
    agents_cpu=0.5,
    machine_cpu=2.0,
    cores=2,
    machine=2,
)


def _up(call: int, first: int, received: int, lost: int = 0) -> UpCall:
    return UpCall(call, first, received, lost, 0, 0, 0)


def _down(call: int, sent: int, received: int = 100, *, over: bool = False, stale: int = 0) -> DownCall:
    return DownCall(call, sent, received, 0, 0, 0, 0, stale, 0, over)


def _run(up: list[UpCall], down: list[DownCall], used: Measured = USED, late: float = 0.001) -> Results:
    nothing = Histogram()
    agents = AgentsDone(_histogram([0.001, 0.002]), nothing, up)
    callers = CallersDone(_histogram([0.01]), nothing, nothing, nothing, _histogram([late]), 0, down, {})
    return results_of(PLAN, agents, callers, used)


def test_cpu_and_memory_are_per_call() -> None:
    run = _run([_up(0, 0, 500), _up(1, 0, 500)], [_down(0, 500), _down(1, 500)])
    assert (run.cpu, run.cpu_per_call, run.memory_per_call) == (8.0, 4.0, 256.0)
    assert (run.callers, run.agents, run.failed, run.lost, run.warnings) == (100.0, 50.0, 0, 0, ())
    assert run.url == "ws://host:6039/"  # the query may hold telephone numbers


@pytest.mark.parametrize(
    ("up", "down", "lost"),
    [
        (_up(0, 3, 97), _down(0, 100), 0),  # what came before the first is nobody's loss
        (_up(0, 0, 95, lost=2), _down(0, 100), 5),  # with those at the end
        (_up(0, 0, 60, lost=2), _down(0, 100, over=True), 2),  # a broken call's end is lost in any case
    ],
)
def test_frames_lost_upstream_are_counted_from_the_first_that_came(up: UpCall, down: DownCall, lost: int) -> None:
    assert _run([up], [down]).up_lost == lost


def test_a_call_without_audio_has_failed() -> None:
    run = _run([_up(0, 0, 500)], [_down(0, 500, received=0), _down(1, 500)])
    assert run.failures == {"no agent audio reached the caller": 1, "no caller audio reached the agent": 1}
    assert run.failed == 2
    assert run.warnings == ()
    assert ["was the server started with their address?" in line for line in _run([], [_down(0, 500)]).warnings] == [
        True
    ]


@pytest.mark.parametrize(
    ("used", "late", "word"),
    [
        (msgspec.structs.replace(USED, callers_cpu=9.5), 0.001, "callers use 95%"),
        (msgspec.structs.replace(USED, server_cpu=None), 0.001, "--pid"),
        (USED, 0.05, "late"),
        (msgspec.structs.replace(USED, machine_cpu=6.0), 0.001, "other programs used 44%"),
        (msgspec.structs.replace(USED, server_cpu=18.0), 0.001, "no CPU left"),
        (msgspec.structs.replace(USED, cores=1, callers_cpu=5.0, agents_cpu=4.8), 0.001, "all it may have"),
    ],
)
def test_a_generator_that_is_the_bottleneck_says_so(used: Measured, late: float, word: str) -> None:
    warnings = _run([_up(0, 0, 500)], [_down(0, 500)], used, late).warnings
    assert [word in line for line in warnings] == [True]


def test_medians_are_of_measurements_and_the_most_of_what_went_wrong() -> None:
    runs = [
        _run([_up(0, 0, 500)], [_down(0, 500, stale=stale)], msgspec.structs.replace(USED, server_cpu=cpu))
        for cpu, stale in ((0.1, 0), (0.5, 7), (0.2, 0))
    ]
    medians = medians_of(runs)
    assert (medians["cpu_per_call"], medians["stale"]) == (10.0, 7.0)
    assert medians["up.max"] == 2.0


def test_a_ratio_needs_both_sides() -> None:
    assert ratios({"a": 1.0, "b": 2.0, "c": 0.0}, {"a": 4.0, "c": 1.0}) == {"a": 0.25}


@pytest.mark.parametrize(
    ("limits", "lines"),
    [
        (Limits(), 0),
        (Limits(p99_ms=10.0, lost=3), 0),
        (Limits(p99_ms=9.9), 1),
        (Limits(lost=2), 1),
        (Limits(failed=0, cpu=4.0, p99_ms=1.0), 3),
        (Limits(memory_kb=300.0), 1),  # not measured
    ],
)
def test_what_is_over_a_limit_is_named(limits: Limits, lines: int) -> None:
    medians = {"up.p99": 10.0, "up_lost": 1.0, "down_damaged": 2.0, "failed": 1.0, "cpu_per_call": 4.5}
    assert len(exceeded(limits, medians)) == lines


def test_a_limit_that_is_exceeded_is_told_with_its_figure() -> None:
    assert exceeded(Limits(p99_ms=5), {"up.p99": 7.25}) == ["added latency up, p99: 7.25 ms, limit 5"]
