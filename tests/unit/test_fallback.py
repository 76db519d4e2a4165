"""What a caller hears when the agent has failed: the operator's file, or the tone of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from sts_trio.audio.pcm import BYTES_PER_SECOND
from sts_trio.errors import ConfigError
from sts_trio.wiring import load_fallback
from tests.call.fakes import tone, wav_file

if TYPE_CHECKING:
    from pathlib import Path


def test_the_tone_is_that_of_a_congested_network() -> None:
    heard = np.frombuffer(load_fallback("tone"), "<i2").astype(float)
    assert len(heard) == 4 * 8000
    for period in heard.reshape(-1, 4000):
        on, off = period[:2000], period[2000:]
        assert not off.any()
        strongest = np.argmax(np.abs(np.fft.rfft(on))) * 8000 / len(on)
        assert strongest == pytest.approx(425, abs=4)
        assert 0.09 * 32767 < np.abs(on).max() <= round(0.1 * 32767)
        assert np.abs(np.diff(on[:8])).max() < 200, "it begins with a click"


@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_a_file_is_brought_to_the_telephones_rate(rate: int, tmp_path: Path) -> None:
    (tmp_path / "sorry.wav").write_bytes(wav_file(tone(2.0, rate=rate), rate))
    assert len(load_fallback(str(tmp_path / "sorry.wav"))) == pytest.approx(2 * BYTES_PER_SECOND, abs=320)


def test_thirty_seconds_are_enough(tmp_path: Path) -> None:
    (tmp_path / "long.wav").write_bytes(wav_file(tone(40.0), 8000))
    assert len(load_fallback(str(tmp_path / "long.wav"))) == 30 * BYTES_PER_SECOND


def test_a_file_that_cannot_be_used_is_one_line_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"ID3 no wave at all")
    with pytest.raises(ConfigError, match=r"FALLBACK_WAV is .*song.wav, which cannot be used: "):
        load_fallback(str(tmp_path / "song.wav"))
    with pytest.raises(ConfigError, match=r"FALLBACK_WAV is .*none.wav, which cannot be used: No such file"):
        load_fallback(str(tmp_path / "none.wav"))


@pytest.mark.parametrize(
    "pcm", [b"", bytes(32_000), b"\x01\x00\xff\xff" * 8000], ids=["empty", "silent", "noise of one bit"]
)
def test_a_file_without_sound_is_refused(pcm: bytes, tmp_path: Path) -> None:
    (tmp_path / "mute.wav").write_bytes(wav_file(pcm, 8000))
    with pytest.raises(ConfigError, match=r"FALLBACK_WAV is .*mute.wav, in which nothing can be heard"):
        load_fallback(str(tmp_path / "mute.wav"))
