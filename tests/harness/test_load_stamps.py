"""Stamps in the caller's audio, whatever pieces it comes in."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sts_trio.harness.load.stamps import Arrivals, UpstreamCount, stamped

MARK = 0x5EED1234
MS = 1_000_000


def _frame(number: int, call: int = 3, mark: int = MARK, sent_ms: float = 0.0) -> bytes:
    return base64.b64decode(stamped(mark, call, number, round(sent_ms * MS), counted=True), validate=True)


def _count(*numbers: int) -> UpstreamCount:
    count = UpstreamCount(MARK, Arrivals())
    for number in numbers:
        count.feed(_frame(number), 1)
    return count


def _wrong(count: UpstreamCount) -> tuple[int, int, int, int]:
    return count.lost, count.doubled, count.reordered, count.damaged


def test_a_frame_is_20_ms_and_tells_its_call_and_how_long_it_took() -> None:
    count = UpstreamCount(MARK, Arrivals())
    assert len(_frame(0)) == 320
    count.feed(_frame(7, sent_ms=100), 104 * MS)
    assert (count.call, count.first, count.received) == (3, 7, 1)
    assert count.arrivals.latency.largest == pytest.approx(0.004, abs=1e-6)


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((4, 5, 6), (0, 0, 0, 0)),
        ((0, 1, 4), (2, 0, 0, 0)),
        ((0, 1, 1, 2), (0, 1, 0, 0)),
        ((0, 2, 1, 3), (0, 0, 1, 0)),
        ((0, 2, 1, 1, 5), (2, 1, 1, 0)),
        ((3, 2), (0, 1, 0, 0)),
    ],
)
def test_what_is_wrong_with_the_order_is_counted(numbers: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    assert _wrong(_count(*numbers)) == wrong


def test_frames_of_another_run_are_nobodys_and_changed_ones_damaged() -> None:
    count = _count(0)
    count.feed(_frame(1, mark=MARK + 1), 1)
    assert (count.received, count.damaged) == (1, 0)
    count.feed(_frame(1)[:-1] + b"\0", 1)
    count.feed(_frame(2, call=4), 1)
    assert (count.received, count.damaged) == (1, 2)


@given(st.lists(st.integers(1, 1500), max_size=40))
@settings(max_examples=50, deadline=None)
def test_pieces_of_any_size_hold_the_same_frames(sizes: list[int]) -> None:
    audio = b"".join(_frame(number) for number in range(20))
    count, at = UpstreamCount(MARK, Arrivals()), 0
    for size in [*sizes, len(audio)]:
        count.feed(audio[at : at + size], 1)
        at += size
    assert (count.received, _wrong(count)) == (20, (0, 0, 0, 0))


@given(st.integers(0, 18), st.integers(1, 319))
@settings(max_examples=30, deadline=None)
def test_a_frame_cut_short_spoils_no_other(which: int, missing: int) -> None:
    frames = [_frame(number) for number in range(20)]
    frames[which] = frames[which][:-missing]
    count = UpstreamCount(MARK, Arrivals())
    audio = b"".join(frames)
    for at in range(0, len(audio), 1000):
        count.feed(audio[at : at + 1000], 1)
    assert count.received == 19
    assert count.last == 19
