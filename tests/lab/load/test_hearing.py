"""What a caller hears in a load: turns, holes, frames after a barge-in."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sts_trio.audio.pcm import parse_wav
from sts_trio.lab.load.hearing import CallHearing, DownArrivals, SharedTimes
from sts_trio.lab.load.plan import PROFILES, Step
from sts_trio.lab.load.stamps.down import WavMaker

if TYPE_CHECKING:
    from pathlib import Path

CALL = 1
MAKER = WavMaker(24_000)
SECOND = 1_000_000_000


@pytest.fixture
def times(tmp_path: Path) -> SharedTimes:
    return SharedTimes(tmp_path / "times", 2, create=True)


@pytest.fixture
def ear(times: SharedTimes) -> CallHearing:
    return CallHearing(CALL, times, DownArrivals(), (0.0, 1000.0))


def _frames(first: int, count: int = 10) -> bytes:
    """Frames as the caller gets them; `first` is a multiple of ten."""
    pcm = b""
    for number in range(first, first + count, 10):
        wav = parse_wav(base64.b64decode(MAKER.chunk(CALL, number)))
        pcm += np.frombuffer(wav.pcm, "<i2")[1::3].tobytes()
    return pcm[: 320 * count]


def _wrong(ear: CallHearing) -> tuple[int, int, int, int, int]:
    return ear.lost, ear.doubled, ear.reordered, ear.damaged, ear.stale


def test_first_audio_is_measured_from_the_agents_write_of_each_turn(ear: CallHearing, times: SharedTimes) -> None:
    times.turn_begins(CALL, 0, 0, 5 * SECOND)
    ear.audio(_frames(0), 5.25)
    times.turn_begins(CALL, 1, 10, 9 * SECOND)
    ear.audio(_frames(10), 9.5)
    assert ear.heard.first.total == 2
    assert ear.heard.first.largest == pytest.approx(0.5)
    assert (ear.received, _wrong(ear)) == (20, (0, 0, 0, 0, 0))


def test_what_comes_early_makes_no_hole_and_what_comes_late_one(ear: CallHearing, times: SharedTimes) -> None:
    times.turn_begins(CALL, 0, 0, SECOND)
    ear.audio(_frames(0), 1.0)
    ear.audio(_frames(10), 1.1)  # due at 1.2
    assert ear.heard.holes == 0
    ear.audio(_frames(20), 1.43)  # due at 1.4: one hole, from which on all is played later
    ear.audio(_frames(30), 1.63)
    assert ear.heard.holes == 1
    assert ear.heard.late.largest == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("order", "wrong"),
    [
        ((0, 10, 20), (0, 0, 0, 0, 0)),
        ((0, 20), (10, 0, 0, 0, 0)),
        ((0, 10, 10, 20), (0, 10, 0, 0, 0)),
        ((0, 20, 10, 30), (0, 0, 10, 0, 0)),
    ],
)
def test_what_is_wrong_with_the_order_is_counted(
    ear: CallHearing, order: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    for first in order:
        ear.audio(_frames(first), 1.0)
    assert _wrong(ear) == wrong


def test_a_frame_that_cannot_be_read_is_damaged_but_not_lost(ear: CallHearing) -> None:
    pcm = _frames(0)
    ear.audio(pcm[: 2 * 320 + 200] + pcm[3 * 320 :], 1.0)
    assert _wrong(ear) == (0, 0, 0, 1, 0)


def test_after_an_interruption_the_old_turn_is_stale_and_not_lost(ear: CallHearing, times: SharedTimes) -> None:
    times.turn_begins(CALL, 0, 0, SECOND)
    ear.audio(_frames(0), 1.0)
    times.cut(CALL, 0, 40, 2 * SECOND)
    ear.interruption(2.5)
    ear.audio(_frames(30), 2.6)
    times.turn_begins(CALL, 1, 40, 3 * SECOND)
    ear.audio(_frames(40), 3.0)
    assert ear.heard.stop.largest == pytest.approx(0.5)
    assert _wrong(ear) == (0, 0, 0, 0, 10)
    assert ear.heard.first.total == 2


def test_an_interruption_that_comes_twice_is_one_too_many(ear: CallHearing, times: SharedTimes) -> None:
    times.cut(CALL, 0, 10, SECOND)
    ear.interruption(1.5)
    ear.interruption(1.6)
    assert (ear.interruptions, ear.doubled, ear.heard.stop.total) == (1, 1, 1)


def test_numbers_begin_again_after_82_seconds_of_speech(ear: CallHearing) -> None:
    for first in range(0, 8400, 400):
        ear.audio(_frames(first, 400), 1.0)
    assert (ear.received, _wrong(ear)) == (8400, (0, 0, 0, 0, 0))


def test_what_is_outside_of_the_measured_time_does_not_count(times: SharedTimes) -> None:
    times.turn_begins(CALL, 0, 0, SECOND)
    ear = CallHearing(CALL, times, DownArrivals(), (5.0, 6.0))
    ear.audio(_frames(0), 1.2)
    assert (ear.heard.first.total, ear.heard.late.total, ear.received) == (0, 0, 10)


@pytest.mark.parametrize(("name", "share"), [("talk", 0.5), ("listen", 0.9), ("chatty", 0.5), ("silent", 0.0)])
def test_a_profile_speaks_as_much_as_it_says(name: str, share: float) -> None:
    profile = PROFILES[name]
    steps = [step for _, step in profile.turn(0)]
    assert steps.count(Step.CHUNK) * 0.2 == pytest.approx(share * profile.cycle)
    assert [at for at, _ in profile.turn(0)] == sorted(at for at, _ in profile.turn(0))


def test_a_chatty_agent_is_interrupted_in_every_other_turn_and_one_chunk_is_late() -> None:
    cut = [step for _, step in PROFILES["chatty"].turn(1)]
    assert cut[cut.index(Step.CUT) :] == [Step.CUT, Step.CHUNK, Step.CUT_OVER, Step.USER]
    assert Step.CUT not in [step for _, step in PROFILES["chatty"].turn(2)]
