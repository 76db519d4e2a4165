"""The agent's voice as telephone audio: pitch, noise, length, limits, and what one stream may know of another."""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import FRAME_SECONDS, RATE, Wav, WavError, parse_wav, seconds
from sts_trio.audio.resample import TelephoneResampler
from tests.unit.signals import chunk, even_chunks, fmt, pcm, play, riff, snr, tone, uneven_chunks, values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RATES = [48_000, 44_100, 24_000, 16_000, 8_000]
# Telephone speech, 200 Hz to 3.4 kHz; none is a fraction of a rate, which would flatter the filter.
SWEEP = [203.0, 311.0, 997.0, 1_999.0, 2_803.0, 3_203.0, 3_400.0]
CHUNKINGS: dict[str, Callable[[], Iterator[float]]] = {
    "20 ms": lambda: even_chunks(0.02),
    "100 ms": lambda: even_chunks(0.1),
    "2 s": lambda: even_chunks(2.0),
    "uneven": uneven_chunks,
}


def converted(audio: bytes, rate: int, channels: int = 1, chunks: str = "100 ms") -> bytes:
    resampler = TelephoneResampler()
    return play(resampler, audio, rate, channels, CHUNKINGS[chunks]()) + resampler.flush()


@pytest.mark.parametrize("chunks", CHUNKINGS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_every_rate_keeps_pitch_level_and_length_with_50_db_to_3400_hz(rate: int, channels: int, chunks: str) -> None:
    length = 2.3  # more than the longest chunk
    for frequency in SWEEP:
        heard = converted(pcm(tone(frequency, rate, length), channels), rate, channels, chunks)
        assert abs(seconds(len(heard)) - length) <= FRAME_SECONDS
        assert snr(heard, tone(frequency, RATE, length)) >= 50


@pytest.mark.parametrize("rate", [48_000, 44_100, 24_000, 16_000])
@pytest.mark.parametrize("frequency", [5_000, 6_000, 7_400])
def test_what_a_telephone_cannot_carry_does_not_come_back_as_another_pitch(rate: int, frequency: float) -> None:
    heard = values(converted(pcm(tone(frequency, rate, 1.0)), rate))[400:-400]
    assert np.abs(heard).max() < 16_000 / 300  # -50 dB


def test_the_channels_are_mixed_at_half_their_level() -> None:
    left, right = tone(311, 48_000, 0.5, 20_000), tone(997, 48_000, 0.5, 20_000)
    both = np.column_stack([left, right]).ravel()
    wanted = tone(311, RATE, 0.5, 10_000) + tone(997, RATE, 0.5, 10_000)
    assert snr(converted(pcm(both), 48_000, 2), wanted) >= 50
    opposed = np.column_stack([left, -left]).ravel()
    assert not values(converted(pcm(opposed), 48_000, 2)).any()


def test_samples_are_rounded_not_cut_off() -> None:
    pairs = np.array([[3, 4], [-3, -4], [1, 2], [-1, -2], [7, 7]], dtype="<i2")
    assert list(values(converted(pairs.tobytes(), RATE, 2))) == [4, -4, 2, -2, 7]


def test_telephone_audio_passes_bit_exact() -> None:
    audio = np.random.default_rng(2).bytes(RATE * 2)
    assert converted(audio, RATE, chunks="uneven") == audio


# Limits.


@pytest.mark.parametrize("rate", RATES)
def test_a_full_scale_clipped_tone_does_not_wrap_around(rate: int) -> None:
    clipped = tone(311, rate, 1.0, 60_000).clip(-32768, 32767)
    heard = values(converted(pcm(clipped), rate))
    # 311 Hz at this slope moves by less than 17,000 a sample, with the filter's ringing; a wrap moves by 60,000.
    assert np.abs(np.diff(heard)).max() < 20_000
    assert np.abs(heard).max() > 32_000


@pytest.mark.parametrize("rate", RATES)
def test_a_full_scale_square_wave_is_limited_where_the_filter_overshoots(rate: int) -> None:
    square = np.where(tone(203, rate, 1.0, 1) >= 0, 32767.0, -32768.0)
    wanted = soxr.resample(square, rate, RATE, quality="VHQ") if rate != RATE else square
    heard = values(converted(pcm(square), rate))
    loud = np.abs(wanted[: len(heard)]) > 20_000
    assert loud.sum() > 0.8 * len(heard)
    assert (np.sign(heard[loud]) == np.sign(wanted[: len(heard)][loud])).all()
    if rate != RATE:
        assert np.abs(wanted).max() > 33_000  # without this the limit would not have been tested
        assert {heard.max(), heard.min()} == {32_767.0, -32_768.0}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_silence_stays_exact_zero(rate: int, channels: int) -> None:
    heard = converted(bytes(rate * 2 * channels), rate, channels)
    assert heard
    assert not any(heard)


# One stream, and another.


@pytest.mark.parametrize("rate", RATES)
def test_a_loud_call_is_not_heard_in_a_silent_one(rate: int) -> None:
    loud, silent = TelephoneResampler(), TelephoneResampler()
    noise, nothing = pcm(tone(311, rate, 0.02, 90_000)), bytes(round(rate * 0.02) * 2)
    heard_loud = heard_silent = b""
    for _ in range(50):
        heard_loud += loud.feed(Wav(rate, 1, memoryview(noise)))
        heard_silent += silent.feed(Wav(rate, 1, memoryview(nothing)))
    heard_loud += loud.flush()
    heard_silent += silent.flush()
    assert np.abs(values(heard_loud)).max() > 30_000
    assert seconds(len(heard_silent)) == pytest.approx(1.0, abs=FRAME_SECONDS)
    assert np.abs(values(heard_silent)).max() <= 2


@given(
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 2),
    cuts=st.lists(st.floats(0.0001, 0.2), min_size=1, max_size=40),
)
def test_chunked_equals_one_shot_to_the_last_bit_but_one(rate: int, channels: int, cuts: list[float]) -> None:
    audio = pcm(np.random.default_rng(3).uniform(-30_000, 30_000, round(rate * 0.3)), channels)
    whole, parts = TelephoneResampler(), TelephoneResampler()
    chunks = [*cuts, *repeat(0.1, 3)]
    in_parts = values(play(parts, audio, rate, channels, chunks) + parts.flush())
    at_once = values(whole.feed(Wav(rate, channels, memoryview(audio))) + whole.flush())
    assert len(in_parts) == len(at_once)
    # Sums of floats depend on their order, which a library chooses by the size of the job: one step in 32768.
    assert np.abs(in_parts - at_once).max() <= 1


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != RATE])
def test_the_output_is_never_more_than_15_ms_behind_the_input(rate: int) -> None:
    resampler, chunk = TelephoneResampler(), pcm(tone(440, rate, 0.02))
    heard = 0
    for number in range(1, 51):
        heard += len(resampler.feed(Wav(rate, 1, memoryview(chunk))))
        assert number * FRAME_SECONDS - seconds(heard) <= 0.015


def test_another_rate_in_mid_stream_loses_nothing_and_keeps_the_pitch() -> None:
    resampler = TelephoneResampler()
    parts: list[bytes] = []
    for rate, channels in ((48_000, 1), (24_000, 2), (8_000, 1), (44_100, 1), (8_000, 2)):
        audio = pcm(tone(500, rate, 0.5), channels)
        before = len(b"".join(parts))
        parts.append(play(resampler, audio, rate, channels, even_chunks(0.1)))
        assert len(b"".join(parts)) > before
    parts.append(resampler.flush())
    heard = b"".join(parts)
    assert seconds(len(heard)) == pytest.approx(2.5, abs=FRAME_SECONDS)
    for half in range(5):  # 500 Hz has whole periods in each half second: the phase goes on
        segment = heard[half * RATE : (half + 1) * RATE]
        assert snr(segment, tone(500, RATE, 0.5)) >= 40


def test_the_tail_of_the_old_rate_comes_before_the_new_audio() -> None:
    resampler, alone = TelephoneResampler(), TelephoneResampler()
    old = Wav(24_000, 1, memoryview(pcm(tone(311, 24_000, 0.1))))
    new = pcm(tone(997, RATE, 0.1))
    heard = resampler.feed(old) + resampler.feed(Wav(RATE, 1, memoryview(new)))
    assert heard == alone.feed(old) + alone.flush() + new


@pytest.mark.parametrize("rate", RATES)
def test_reset_leaves_nothing_of_the_old_in_the_new(rate: int) -> None:
    resampler, fresh = TelephoneResampler(), TelephoneResampler()
    resampler.feed(Wav(rate, 1, memoryview(pcm(tone(311, rate, 0.137, 32_000)))))
    resampler.reset()
    reply = pcm(tone(997, rate, 0.3))
    chunks = list(islice(uneven_chunks(), 20))
    assert play(resampler, reply, rate, 1, chunks) == play(fresh, reply, rate, 1, chunks)
    assert resampler.flush() == fresh.flush()


@pytest.mark.parametrize("rate", RATES[:-1])
def test_after_reset_there_is_no_tail(rate: int) -> None:
    resampler = TelephoneResampler()
    resampler.feed(Wav(rate, 1, memoryview(pcm(tone(311, rate, 0.1, 32_000)))))
    resampler.reset()
    assert resampler.flush() == b""


@pytest.mark.parametrize("rate", RATES[:-1])
def test_flush_gives_the_tail_once_and_begins_anew(rate: int) -> None:
    resampler = TelephoneResampler()
    audio = Wav(rate, 1, memoryview(pcm(tone(311, rate, 0.1))))
    ready = resampler.feed(audio)
    tail = resampler.flush()
    assert tail
    assert resampler.flush() == b""
    assert seconds(len(ready + tail)) == pytest.approx(0.1, abs=0.001)
    assert resampler.feed(audio) + resampler.flush() == ready + tail


def test_without_a_stream_there_is_no_tail() -> None:
    assert TelephoneResampler().flush() == b""


def test_the_first_100_ms_of_a_reply_gives_audio_at_once() -> None:
    for rate in (24_000, 48_000):  # what EVI sends; 60 ms was measured, half of it would still do
        assert seconds(len(TelephoneResampler().feed(Wav(rate, 1, memoryview(bytes(rate // 5)))))) >= 0.03


# Whatever a WAV may hold.


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_stereo_file_that_ends_within_a_block_is_played_to_its_last_whole_block(missing: int) -> None:
    audio = pcm(tone(311, 24_000, 0.1), 2)
    torn = riff(fmt(24_000, 2), chunk(b"data", audio, claimed=0xFFFFFFFF))[:-missing]
    resampler = TelephoneResampler()
    heard = resampler.feed(parse_wav(torn)) + resampler.flush()
    assert heard == converted(audio[:-4], 24_000, 2)


@given(
    rate=st.integers(1, 200_000),
    channels=st.integers(0, 10),
    data=st.lists(st.binary(max_size=400), min_size=1, max_size=4),
)
def test_whatever_reads_as_wav_can_be_played(rate: int, channels: int, data: list[bytes]) -> None:
    resampler = TelephoneResampler()
    for body in data:
        try:
            wav = parse_wav(riff(fmt(rate, channels), chunk(b"data", body)))
        except WavError:
            continue
        assert len(resampler.feed(wav)) % 2 == 0
    assert len(resampler.flush()) % 2 == 0
