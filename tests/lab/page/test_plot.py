"""Axes in round numbers, and paths that are where their values are."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.page.plot import MOST_PEAKS, axis, curve, round_up, rows, wave


@pytest.mark.parametrize(
    ("most", "about", "words"),
    [
        (17.4, 6, ["0", "5", "10", "15"]),
        (1.0, 4, ["0.0", "0.5", "1.0"]),
        (0.05, 5, ["0.00", "0.01", "0.02", "0.03", "0.04", "0.05"]),
        (300.0, 6, ["0", "50", "100", "150", "200", "250", "300"]),
    ],
)
def test_an_axis_has_round_numbers(most: float, about: int, words: list[str]) -> None:
    ticks = axis(most, about)
    assert [tick.words for tick in ticks] == words
    assert ticks[1].place == pytest.approx(float(words[1]) / most * 100, abs=0.01)


@given(most=st.floats(1e-3, 1e6), about=st.integers(2, 12))
def test_an_axis_has_no_more_marks_than_there_is_room_for(most: float, about: int) -> None:
    ticks = axis(most, about)
    assert 1 <= len(ticks) <= about + 1
    assert all(0 <= tick.place <= 100 for tick in ticks)
    assert round_up(most, about) >= most * (1 - 1e-9)


def test_a_wave_is_as_high_as_the_sound_where_it_is() -> None:
    sound = np.zeros(16_000, dtype="<i2")
    sound[8000:8160] = 4000  # 20 ms at 1 s
    sound[8160:8320] = -2000
    drawn = wave(sound.tobytes(), 4.0, 8000)
    points = [(int(x), int(y)) for x, y in re.findall(r"(\d+) (-?\d+)", drawn.path)]
    assert drawn.width == 200
    assert len(points) == 400
    assert {(x, y) for x, y in points if y} == {(50, -100), (51, 50)}


@given(st.binary(max_size=400).filter(lambda pcm: len(pcm) % 2 == 0), st.floats(0.02, 3000))
def test_every_sound_has_a_picture_of_its_size(pcm: bytes, whole: float) -> None:
    drawn = wave(pcm, whole, 8000)
    assert 1 <= drawn.width <= MOST_PEAKS
    assert all(-100 <= int(y) <= 100 for _, y in re.findall(r"(\d+) (-?\d+)", drawn.path))
    assert len(drawn.path) <= 24 * drawn.width + 2


def test_a_curve_has_gaps_where_nothing_is_known() -> None:
    assert curve([(0, 1), (1, None), (2, 3), (4, 5)], 4, 5) == "M0 80M50 40L100 0"


def test_marks_that_would_touch_are_in_rows() -> None:
    assert rows([0, 1, 2, 3, 3, 9], 2.5) == [0, 1, 2, 0, 3, 0]
    assert rows([0] * 8, 1) == [0, 1, 2, 3, 4, 5, 0, 1]  # and no more rows than can be looked at
