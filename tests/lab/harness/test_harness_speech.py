"""WAV files as speech."""

from __future__ import annotations

import wave
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from sts_trio.lab.harness.measures import fidelity
from sts_trio.lab.harness.speech import SAMPLE, SpeechError, speech_from_wav, utterances
from tests.lab.harness.harness_parrot import silence, voice

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, data: bytes, rate: int, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(data)
    return path


def test_telephone_audio_passes_bit_exact(tmp_path: Path) -> None:
    assert speech_from_wav(write(tmp_path / "a.wav", voice(1.0), 8000)) == voice(1.0)


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_other_rates_keep_pitch_and_length(tmp_path: Path, rate: int) -> None:
    def tone(at: int) -> bytes:
        wave = 9000 * np.sin(2 * np.pi * 1000 * np.arange(at) / at) * np.hanning(at)
        return np.rint(wave).astype("<i2").tobytes()

    speech = speech_from_wav(write(tmp_path / "a.wav", tone(rate), rate))
    assert abs(len(speech) - 16000) <= 4
    match = fidelity(tone(8000), speech)
    assert match is not None
    assert match.snr_db > 50
    assert abs(match.gain_db) < 0.05
    assert abs(match.delay) < 0.0005


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = np.full(800, 1000), np.full(800, 3000)
    both = np.stack((left, right), axis=1).astype("<i2").tobytes()
    assert speech_from_wav(write(tmp_path / "a.wav", both, 8000, channels=2)) == np.full(800, 2000, "<i2").tobytes()


@pytest.mark.parametrize(
    ("width", "data"),
    [(1, bytes([128, 255, 0])), (3, b"\0\0\0\xff\xff\x7f\0\0\x80"), (4, b"\0\0\0\0\xff\xff\xff\x7f\0\0\0\x80")],
)
def test_other_widths_have_the_same_scale(tmp_path: Path, width: int, data: bytes) -> None:
    speech = np.frombuffer(speech_from_wav(write(tmp_path / "a.wav", data, 8000, width=width)), "<i2")
    assert speech.tolist() == [0, pytest.approx(32767, abs=300), -32768]


@pytest.mark.parametrize(
    ("file_format", "subtype", "bits"),
    [
        ("WAVEX", "PCM_16", 16),
        ("WAVEX", "PCM_24", 16),
        ("WAV", "FLOAT", 16),
        ("WAV", "DOUBLE", 16),
        ("WAVEX", "FLOAT", 16),
        ("WAV", "ULAW", 7),
        ("WAV", "ALAW", 7),
        ("RF64", "PCM_16", 16),
    ],
)
def test_whatever_a_wav_file_holds_is_played(tmp_path: Path, file_format: str, subtype: str, bits: int) -> None:
    said = np.frombuffer(voice(1.0), "<i2")
    scaled = said / 32768 if subtype in ("FLOAT", "DOUBLE") else said  # soundfile scales integers only
    soundfile.write(tmp_path / "a.wav", scaled, 8000, subtype=subtype, format=file_format)
    heard = np.frombuffer(speech_from_wav(tmp_path / "a.wav"), "<i2")
    assert len(heard) == len(said)
    off = np.abs(heard.astype(float) - said).max()
    assert off <= 2 ** (16 - bits), f"{off} of 32768"


def test_floats_that_are_too_loud_or_no_numbers_are_bounded(tmp_path: Path) -> None:
    samples = np.array([0.5, 4.0, -4.0, np.nan, np.inf, 0.25])
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="DOUBLE")
    heard = np.frombuffer(speech_from_wav(tmp_path / "a.wav"), "<i2")
    assert heard.tolist() == [16384, 32767, -32768, 0, 32767, 8192]


@pytest.mark.parametrize("content", [None, b"", b"no wav at all", b"RIFF\x04\0\0\0WAVE"])
def test_a_file_that_is_no_wav_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpeechError, match=r"broken\.wav") as info:
        speech_from_wav(path)
    assert "\n" not in str(info.value)


def test_a_wav_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechError, match="holds no audio"):
        speech_from_wav(write(tmp_path / "a.wav", b"", 8000))


def test_speech_is_cut_at_long_silences_only() -> None:
    first = voice(1.0, seed=1) + silence(0.5) + voice(1.0, seed=2)
    parts = utterances(silence(1.0) + first + silence(5.0) + voice(2.0, seed=3))
    assert parts == [silence(0.1) + first + silence(0.1), silence(0.1) + voice(2.0, seed=3)]
    assert utterances(silence(3.0)) == utterances(b"") == []


def test_the_bundled_sample_is_two_utterances_that_suit_the_demo() -> None:
    first, second = utterances(speech_from_wav(SAMPLE))
    assert len(first) >= 1.2 * 16000
    assert len(second) >= 2.5 * 16000
