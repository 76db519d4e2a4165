"""Fidelity, proved with replies whose faults are known."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from sts_trio.lab.harness.measures import Fidelity, fidelity
from tests.lab.harness.harness_parrot import voice

SAID = voice(2.5, seed=3)


def signal(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2").astype(float)


def pcm(samples: np.ndarray) -> bytes:
    data: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
    return data


def compare(heard: bytes, said: bytes = SAID) -> Fidelity:
    result = fidelity(said, heard)
    assert result is not None
    return result


def test_the_same_is_perfect_wherever_it_begins() -> None:
    result = compare(bytes(2 * 4321) + SAID + bytes(16000))
    assert result.snr_db == 100
    assert result.correlation == pytest.approx(1)
    assert result.lsd_db == pytest.approx(0)
    assert result.coverage == pytest.approx(1, abs=1e-3)
    assert result.delay == 4321 / 8000
    assert result.gain_db == pytest.approx(0)


@pytest.mark.parametrize("snr", [0, 10, 20, 30, 40, 50])
def test_a_known_snr_is_measured_within_1_db(snr: int) -> None:
    noise = signal(voice(2.5, seed=77))
    noise *= np.sqrt(np.sum(signal(SAID) ** 2) / np.sum(noise**2)) * 10 ** (-snr / 20)
    result = compare(bytes(3200) + pcm(signal(SAID) + noise) + bytes(3200))
    assert result.snr_db == pytest.approx(snr, abs=1)
    assert result.correlation == pytest.approx(1 / np.sqrt(1 + 10 ** (-snr / 10)), abs=0.01)


def test_noise_outside_the_telephone_band_does_not_count() -> None:
    tone = 300 * np.sin(2 * np.pi * 100 * np.arange(len(SAID) // 2) / 8000)
    assert compare(pcm(signal(SAID) + tone)).snr_db > 50


def test_gain_is_told_and_not_held_against_it() -> None:
    result = compare(bytes(800) + pcm(signal(SAID) * 0.25))
    assert result.gain_db == pytest.approx(-12.04, abs=0.01)
    assert result.snr_db > 50
    assert result.lsd_db < 0.5


def test_a_delay_of_a_part_of_a_sample_is_found() -> None:
    """By way of 48 kHz, where a sixth of a sample is one."""
    fine = soxr.resample(signal(SAID), 8000, 48000, quality="VHQ")
    late = soxr.resample(np.concatenate((np.zeros(6 * 100 + 2), fine)), 48000, 8000, quality="VHQ")
    result = compare(pcm(late))
    assert result.delay * 8000 == pytest.approx(100 + 1 / 3, abs=0.001)
    assert result.snr_db > 45


def test_two_resamplers_cost_next_to_nothing() -> None:
    """With soft ends, as speech has: a hard first sample would ring where nothing was said."""
    ramp = np.minimum(1, np.arange(len(SAID) // 2) / 400)
    said = pcm(signal(SAID) * ramp * ramp[::-1])
    up = soxr.resample(signal(said), 8000, 48000, quality="HQ")
    assert compare(pcm(soxr.resample(up, 48000, 8000, quality="MQ")), said).snr_db > 60


def test_another_sentence_does_not_match() -> None:
    result = compare(voice(2.5, seed=4))
    assert result.snr_db < 0
    assert result.correlation < 0.3
    assert result.lsd_db > 4


@pytest.mark.parametrize("where", [0.3, 1.0, 2.2])
def test_one_lost_frame_shows(where: float) -> None:
    cut = round(where * 8000) * 2
    assert compare(SAID[:cut] + SAID[cut + 320 :]).snr_db < 15


def test_one_frame_played_as_silence_shows() -> None:
    assert compare(SAID[:16000] + bytes(320) + SAID[16320:]).snr_db < 25


def test_two_frames_in_the_wrong_order_show() -> None:
    assert compare(SAID[:16000] + SAID[16320:16640] + SAID[16000:16320] + SAID[16640:]).snr_db < 25


def test_ends_cut_by_a_voice_detector_only_lower_the_coverage() -> None:
    result = compare(bytes(1600) + SAID[4800:-3200] + bytes(3200))
    assert result.snr_db > 60
    assert result.lsd_db < 0.1
    assert result.coverage == pytest.approx(0.8, abs=0.06)
    assert result.delay == pytest.approx((800 - 2400) / 8000)


def test_silence_cannot_be_compared() -> None:
    assert fidelity(SAID, bytes(3200)) is None
    assert fidelity(bytes(3200), SAID) is None
    assert fidelity(SAID, b"") is None


def test_a_click_is_compared_without_a_fuss() -> None:
    assert compare(pcm(np.array([9000.0]))).coverage < 0.1
