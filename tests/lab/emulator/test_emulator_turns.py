"""End of turn from audio alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.lab.emulator.turns import Speaking, Turn, TurnDetector
from tests.lab.emulator.evi_client import silence, tone


def turns(audio: np.ndarray, rate: int = 8000, size: int = 160) -> list[Turn]:
    detector = TurnDetector(rate, 800)
    events = [event for at in range(0, len(audio), size) for event in detector.feed(audio[at : at + size])]
    return [event for event in events if isinstance(event, Turn)]


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_one_utterance_ends_after_the_silence(rate: int) -> None:
    speech = np.concatenate((silence(1, rate), tone(2, rate), silence(0.8, rate)))
    (turn,) = turns(speech, rate, rate // 50)
    assert turn.begin_ms == pytest.approx(1000, abs=10)
    assert turn.end_ms == pytest.approx(3000, abs=10)
    assert not turns(speech[: -rate // 50], rate, rate // 50)  # 20 ms less silence: not yet


def test_an_utterance_is_the_callers_samples_with_100_ms_around() -> None:
    audio = np.concatenate((silence(1), tone(1), silence(1)))
    (turn,) = turns(audio)
    np.testing.assert_array_equal(turn.samples, audio[7200:16_800])


def test_a_pause_shorter_than_the_silence_stays_in_the_turn() -> None:
    (turn,) = turns(np.concatenate((tone(1), silence(0.7), tone(1), silence(1))))
    assert turn.end_ms - turn.begin_ms == 2700


@pytest.mark.parametrize("sound", [tone(0.02), tone(0.08), tone(3, peak=40), silence(3)])
def test_clicks_knocks_and_line_noise_are_no_speech(sound: np.ndarray) -> None:
    assert not turns(np.concatenate((silence(0.5), sound, silence(2))))


def test_an_endless_speech_is_cut_at_30_s() -> None:
    (turn,) = turns(tone(40))
    assert turn.end_ms - turn.begin_ms == pytest.approx(30_000, abs=150)


def test_the_run_of_speech_starts_again_after_a_gap() -> None:
    detector = TurnDetector(8000, 800)
    detector.feed(np.concatenate((tone(1), silence(0.5))))
    (event,) = detector.feed(tone(0.2))
    assert event == Speaking(run_ms=200, turn_ms=1700)


@given(
    parts=st.lists(st.tuples(st.integers(1, 1500), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=8),
)
def test_how_the_stream_is_cut_makes_no_difference(parts: list[tuple[int, bool]], cuts: list[int]) -> None:
    sounds = [tone(ms / 1000) if loud else silence(ms / 1000) for ms, loud in parts]
    audio = np.concatenate((*sounds, silence(1)))
    detector, at, uneven, number = TurnDetector(8000, 800), 0, [], 0
    while at < len(audio):
        size = cuts[number % len(cuts)]
        uneven += [event for event in detector.feed(audio[at : at + size]) if isinstance(event, Turn)]
        at, number = at + size, number + 1
    even = turns(audio)
    assert [(turn.begin_ms, turn.end_ms) for turn in uneven] == [(turn.begin_ms, turn.end_ms) for turn in even]
    for one, other in zip(uneven, even, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
