"""The agent's audio: whole WAV files that hold what they were given."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from sts_trio.lab.emulator import emotions
from sts_trio.lab.emulator.voice import Recording, VoiceFormat, chunks, greeting
from tests.lab.emulator.evi_client import read_wav, snr_db, tone


def said(speech: Recording, rate: int, channels: int = 1, ms: int = 100) -> tuple[list[np.ndarray], list[float]]:
    made = list(chunks(speech, VoiceFormat(rate, channels, lambda: ms)))
    files = [read_wav(chunk.wav) for chunk in made]
    assert {(got_rate, got) for _, got_rate, got in files} <= {(rate, channels)}
    return [samples.reshape(-1, channels) for samples, _, _ in files], [chunk.at for chunk in made]


@pytest.mark.parametrize("rate", [48_000, 44_100, 24_000, 16_000])
def test_an_utterance_comes_back_as_it_went_in(rate: int) -> None:
    speech = tone(1.5, hz=1000) + tone(1.5, hz=3300)  # up to the top of the telephone band
    files, _ = said(Recording(speech, 8000), rate)
    back = soxr.resample(np.concatenate(files)[:, 0].astype(float), rate, 8000, quality="VHQ")
    assert len(back) == pytest.approx(len(speech), abs=2)
    middle = slice(800, 11_200)  # the edges are cut sines: no filter passes those
    assert snr_db(speech[middle], np.rint(back).astype(np.int16)[middle]) > 55


def test_the_same_rate_is_bit_exact() -> None:
    speech = np.random.default_rng(1).integers(-32768, 32767, 12_345, np.int16)
    files, _ = said(Recording(speech, 8000), 8000)
    np.testing.assert_array_equal(np.concatenate(files)[:, 0], speech)


def test_a_full_scale_square_does_not_wrap() -> None:
    square = np.where(np.arange(8000) % 16 < 8, 32767, -32768).astype(np.int16)
    files, _ = said(Recording(square, 8000), 48_000)
    up = np.concatenate(files)[:, 0].astype(int)
    assert np.abs(np.diff(up)).max() < 40_000  # a wrap would be a step of 65535


@pytest.mark.parametrize("ms", [20, 150, 2000])
def test_chunks_have_their_length_and_time(ms: int) -> None:
    files, times = said(greeting(), 24_000, ms=ms)
    assert {len(file) for file in files[:-1]} <= {24 * ms}
    assert times == pytest.approx([number * ms / 1000 for number in range(len(files))])
    assert sum(map(len, files)) == len(greeting().samples)


def test_stereo_has_the_same_on_both_sides() -> None:
    files, _ = said(greeting(), 48_000, channels=2)
    stereo = np.concatenate(files)
    np.testing.assert_array_equal(stereo[:, 0], stereo[:, 1])
    assert len(stereo) == pytest.approx(greeting().seconds * 48_000, abs=2)


def test_nothing_to_say_makes_no_chunk() -> None:
    assert said(Recording(tone(0), 8000), 48_000) == ([], [])


def test_the_greeting_is_what_the_assets_page_says() -> None:
    assert greeting().rate == 24_000
    assert 2 < greeting().seconds < 3
    assert np.abs(greeting().samples).max() == pytest.approx(32768 * 10 ** (-3 / 20), rel=0.01)


def test_scores_follow_the_sound() -> None:
    low, high = emotions.scores(tone(1), 8000), emotions.scores(tone(1, hz=1200), 8000)
    assert len(low) == 48
    assert all(0 <= score <= 1 for score in (*low.values(), *high.values()))
    assert low == emotions.scores(tone(1), 8000)
    assert low != high
    assert len(emotions.scores(tone(0), 8000)) == 48
