"""How much a peer may send, and a caller's audio in real time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.call.upstream import BURST_SECONDS, RealTimeLimit
from sts_trio.websocket.frames import TokenBucket

FRAME = bytes(320)
STEPS = st.lists(st.tuples(st.floats(0, 20), st.integers(0, 500_000)), max_size=40)


def test_what_was_saved_may_be_taken_at_once_and_then_no_faster_than_the_rate() -> None:
    allowance = TokenBucket(10, 50, now=100.0)
    assert allowance.take(60, 100.0) == 50
    assert allowance.take(1, 100.0) == 0
    assert allowance.take(60, 102.0) == 20
    assert allowance.take(60, 1000.0) == 50


@pytest.mark.parametrize("speed", [1.0, 1.01, 0.5])
def test_a_caller_in_real_time_loses_nothing_in_an_hour(speed: float) -> None:
    rate = RealTimeLimit(0.0)
    assert all(rate.admit(FRAME, number * 0.02 / speed) == FRAME for number in range(180_000))
    assert rate.excess_seconds == 0


def test_a_stall_of_five_seconds_loses_nothing() -> None:
    rate = RealTimeLimit(0.0)
    for number in range(500):
        rate.admit(FRAME, number * 0.02)
    assert all(rate.admit(FRAME, 15.0) == FRAME for _ in range(250))


def test_a_file_that_is_posted_at_once_loses_what_comes_after_the_burst() -> None:
    """Also within one message: its beginning passes."""
    rate = RealTimeLimit(0.0)
    assert len(rate.admit(bytes(16_000 * 90), 0.0)) == BURST_SECONDS * 16_000
    assert rate.excess_seconds == 30.0
    assert rate.admit(FRAME, 0.0) == b""
    assert rate.admit(FRAME, 1.0) == FRAME


@given(STEPS)
def test_never_more_than_the_burst_and_real_time_and_always_whole_samples(steps: list[tuple[float, int]]) -> None:
    rate, now, passed, sent = RealTimeLimit(0.0), 0.0, 0, 0
    for pause, samples in steps:
        now += pause
        pcm = bytes(2 * samples)
        admitted = rate.admit(pcm, now)
        assert len(admitted) % 2 == 0
        passed, sent = passed + len(admitted), sent + len(pcm)
        assert passed <= (BURST_SECONDS + 1.05 * now) * 16_000 + 1e-3
    assert rate.excess_seconds == pytest.approx((sent - passed) / 16_000)
