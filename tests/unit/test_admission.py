"""When a call is refused: lag that stays, places that are taken, a service that stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog.testing
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.handler import DRAINING, OVERLOADED, REASONS, Registry, Shedder, full
from sts_trio.metrics import STEP_SECONDS, watch_lag

if TYPE_CHECKING:
    from collections.abc import Iterable

Clock = trio.testing.MockClock
LIMIT = 0.1


def changes(lags: Iterable[tuple[float, float]], limit: float = LIMIT) -> list[tuple[float, bool]]:
    """When shedding begins and ends, for pairs of a lag and how long it lasts, measured 16 times a second."""
    shedder, now, found = Shedder(limit), 100.0, []
    for lag, lasts in lags:
        for _ in range(round(lasts * 16)):
            now += 1 / 16
            if shedder.feed(lag, now):
                found.append((now - 100, shedder.shedding))
    return found


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ([(0.0, 60)], []),
        ([(0.1, 60)], []),  # at the limit is not above it
        ([(0.11, 1)], []),
        ([(0.11, 1.0625)], [(1.0625, True)]),
        ([(0.11, 1), (0.1, 0.0625), (0.11, 1)], []),  # it must stay there
        ([(30.0, 0.0625), (0.0, 60)], []),  # one long stop is over when it is seen
        ([(0.11, 2), (0.0, 2)], [(1.0625, True)]),
        ([(0.11, 2), (0.0, 2.0625)], [(1.0625, True), (4.0625, False)]),
        ([(0.11, 2), (0.04, 1.9375), (0.05, 0.0625), (0.04, 2.0625)], [(1.0625, True), (6.0625, False)]),
        ([(0.11, 2), (0.06, 600)], [(1.0625, True)]),  # between half and limit nothing changes
        ([(0.11, 1), (0.06, 600), (0.11, 1)], []),
        ([(0.11, 2), (0.0, 3), (0.2, 2)], [(1.0625, True), (4.0625, False), (6.0625, True)]),
    ],
)
def test_shedding_begins_after_a_second_of_lag_and_ends_after_two_without(
    lags: list[tuple[float, float]], expected: list[tuple[float, bool]]
) -> None:
    assert changes(lags) == expected


def test_a_limit_of_0_turns_shedding_off() -> None:
    assert changes([(50.0, 60)], limit=0) == []


@given(st.lists(st.tuples(st.floats(0, 0.3), st.floats(0.05, 3)), max_size=20))
def test_a_change_always_has_its_cause_right_before_it(lags: list[tuple[float, float]]) -> None:
    shedder, now, seen = Shedder(LIMIT), 0.0, []
    for lag, pause in lags:
        now += pause
        seen.append((now, lag))
        before = shedder.shedding
        changed = shedder.feed(lag, now)
        assert changed == (shedder.shedding != before)
        if changed:
            needed = 1.0 if shedder.shedding else 2.0
            window = [each for at, each in seen if at >= now - needed]
            assert all(each > LIMIT if shedder.shedding else each < LIMIT / 2 for each in window)


async def test_a_busy_event_loop_sheds_until_it_keeps_time_again(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    shedder, lags = Shedder(LIMIT), list[float]()
    registry = Registry(0, shedder)
    nursery.start_soon(watch_lag, shedder, lags.append)
    with structlog.testing.capture_logs() as lines:
        await trio.sleep(10)
        assert max(lags) < 0.001
        assert len(lags) == pytest.approx(10 / STEP_SECONDS, abs=2)
        for _ in range(12):  # something of ours computes for 0.2 s, again and again
            await trio.sleep(0.001)
            autojump_clock.jump(0.2)
        assert max(lags) == pytest.approx(0.15, abs=0.01)
        assert registry.refusal() == OVERLOADED
        await trio.sleep(1.9)
        assert registry.refusal() == OVERLOADED
        await trio.sleep(0.3)
        assert registry.refusal() is None
    assert ["overloaded" in line["event"] for line in lines] == [True, True]
    assert lines[0]["lag_ms"] > 100
    nursery.cancel_scope.cancel()


def test_the_last_place_is_given_once_and_again_when_it_is_free() -> None:
    registry = Registry(2)
    with registry.admit() as first:
        assert first is None
        with registry.admit() as second, registry.admit() as third:
            assert second is None
            assert third == full(2)
        with registry.admit() as fourth:
            assert fourth is None
    assert registry.refused.counts == {"full": 1}
    assert registry.refusal() is None


def test_a_place_is_free_again_whatever_ends_its_call() -> None:
    registry = Registry(1)
    with pytest.raises(ZeroDivisionError), registry.admit():
        raise ZeroDivisionError
    assert registry.refusal() is None


def test_asking_counts_nothing_and_no_limit_means_none() -> None:
    registry = Registry()
    held = [registry.admit() for _ in range(1000)]
    assert {place.__enter__() for place in held} == {None}
    assert registry.refusal() is None
    assert registry.refused.counts == {}


async def test_a_drain_waits_for_a_call_that_was_admitted_and_has_not_begun(
    nursery: trio.Nursery, autojump_clock: Clock
) -> None:
    registry = Registry(1)
    with registry.admit() as refusal:
        assert refusal is None
        nursery.start_soon(registry.drain)
        await trio.sleep(60)
        assert registry.refusal() == DRAINING  # which goes before being full
        assert not registry.stopped
    await trio.testing.wait_all_tasks_blocked()
    assert registry.stopped


def test_every_reason_has_its_word() -> None:
    assert {each.reason for each in (DRAINING, full(1), OVERLOADED)} == set(REASONS)
