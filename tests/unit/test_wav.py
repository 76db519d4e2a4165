"""Reading WAV: whatever stands around the samples, and whatever is no WAV at all."""

from __future__ import annotations

import io
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import Wav, WavError, parse_wav
from tests.unit.signals import chunk, extensible, fmt, riff

SOUND = bytes(range(1, 41))  # 20 samples, none of them zero


def test_rate_channels_and_samples_of_a_plain_file() -> None:
    wav = parse_wav(riff(fmt(24_000, 1), chunk(b"data", SOUND)))
    assert (wav.rate, wav.channels, bytes(wav.pcm)) == (24_000, 1, SOUND)
    assert wav.seconds == pytest.approx(20 / 24_000)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 26, 27])
def test_other_chunks_are_walked_over_with_their_pad_byte(size: int) -> None:
    junk = chunk(b"JUNK", b"d" * size)
    wav = parse_wav(riff(junk, fmt(48_000, 1), junk, chunk(b"LIST", b"x" * size), chunk(b"data", SOUND), junk))
    assert (wav.rate, bytes(wav.pcm)) == (48_000, SOUND)


def test_a_chunk_that_contains_the_word_data_is_not_the_data() -> None:
    wav = parse_wav(riff(fmt(), chunk(b"LIST", b"data\x04\x00\x00\x00noise"), chunk(b"data", SOUND)))
    assert bytes(wav.pcm) == SOUND


@pytest.mark.parametrize("claimed", [0, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, len(SOUND) + 1, len(SOUND) + 1000])
def test_an_unknown_or_too_large_data_size_means_the_rest_of_the_file(claimed: int) -> None:
    wav = parse_wav(riff(fmt(), chunk(b"data", SOUND, claimed=claimed)))
    assert bytes(wav.pcm) == SOUND


def test_a_true_data_size_ends_the_samples() -> None:
    wav = parse_wav(riff(fmt(), chunk(b"data", SOUND), chunk(b"LIST", b"\x55" * 40)))
    assert bytes(wav.pcm) == SOUND


def test_the_format_of_a_file_is_the_one_before_its_data() -> None:
    assert parse_wav(riff(fmt(24_000), fmt(48_000), chunk(b"data", SOUND))).rate == 48_000


def test_extensible_format_of_pcm_is_read_and_of_floats_is_refused() -> None:
    wav = parse_wav(riff(extensible(44_100, 2, subformat=1), chunk(b"data", SOUND)))
    assert (wav.rate, wav.channels, bytes(wav.pcm)) == (44_100, 2, SOUND)
    with pytest.raises(WavError, match="0x0003"):
        parse_wav(riff(extensible(44_100, 2, subformat=3, bits=32), chunk(b"data", SOUND)))


@pytest.mark.parametrize(("channels", "whole"), [(1, 38), (2, 36), (3, 36), (8, 32)])
def test_only_whole_blocks_are_audio(channels: int, whole: int) -> None:
    wav = parse_wav(riff(fmt(24_000, channels), chunk(b"data", SOUND[:39])))
    assert bytes(wav.pcm) == SOUND[:whole]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (fmt(bits=8), "8 bits"),
        (fmt(bits=24), "24 bits"),
        (fmt(kind=3, bits=32), "0x0003"),
        (fmt(kind=7, bits=8), "0x0007"),
        (fmt(channels=0), "0 channels"),
        (fmt(channels=9), "9 channels"),
        (fmt(rate=0), "0 Hz"),
        (fmt(rate=999), "999 Hz"),
        (fmt(rate=200_000), "200000 Hz"),
        (chunk(b"fmt ", bytes(14)), "14 bytes"),
        (b"", "before its format"),
    ],
)
def test_a_format_that_we_cannot_play_is_refused_and_named(header: bytes, why: str) -> None:
    with pytest.raises(WavError, match=why):
        parse_wav(riff(header, chunk(b"data", SOUND)))


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", SOUND, b"OggS" + SOUND, b"RIFX" + SOUND, b"RIFF\x00\x00\x00\x00AVI " + SOUND]
)
def test_what_is_no_wav_is_refused(data: bytes) -> None:
    with pytest.raises(WavError, match="RIFF/WAVE"):
        parse_wav(data)


def test_a_wav_without_data_is_refused() -> None:
    with pytest.raises(WavError, match="no data chunk"):
        parse_wav(riff(fmt()))


@pytest.mark.parametrize("header", [fmt(48_000, 2), extensible(48_000, 2, subformat=1)])
def test_a_file_cut_anywhere_is_refused_or_gives_what_is_left_of_its_samples(header: bytes) -> None:
    whole = riff(chunk(b"JUNK", b"odd"), header, chunk(b"data", SOUND))
    head = len(whole) - len(SOUND)
    for size in range(len(whole)):
        if size < head:
            with pytest.raises(WavError):
                parse_wav(whole[:size])
        else:
            assert bytes(parse_wav(whole[:size]).pcm) == SOUND[: (size - head) // 4 * 4]


@given(
    st.binary(max_size=200)
    | st.binary(max_size=200).map(lambda rest: b"RIFF\x00\x00\x00\x00WAVE" + rest)
    | st.binary(min_size=16, max_size=60).map(lambda body: riff(chunk(b"fmt ", body), chunk(b"data", SOUND)))
)
def test_any_bytes_are_a_wav_or_a_wav_error(data: bytes) -> None:
    try:
        wav = parse_wav(data)
    except WavError:
        return
    assert len(wav.pcm) % (2 * wav.channels) == 0


@given(
    rate=st.sampled_from([8000, 16_000, 22_050, 24_000, 44_100, 48_000]),
    channels=st.integers(1, 8),
    blocks=st.lists(st.binary(min_size=2, max_size=2), max_size=50),
)
def test_every_file_of_the_standard_library_reads_back(rate: int, channels: int, blocks: list[bytes]) -> None:
    samples = b"".join(block * channels for block in blocks)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples)
    wav = parse_wav(file.getvalue())
    assert (wav.rate, wav.channels, bytes(wav.pcm)) == (rate, channels, samples)


@given(st.integers(0, 300), st.sampled_from([0.0, 0.0001, 0.02, 0.1]), st.integers(1, 3))
def test_the_parts_of_a_cut_file_are_short_whole_and_complete(blocks: int, seconds: float, channels: int) -> None:
    wav = Wav(8000, channels, memoryview(bytes(range(256)) * 8)[: blocks * 2 * channels])
    parts = list(wav.cut(seconds))
    assert b"".join(bytes(part.pcm) for part in parts) == bytes(wav.pcm)
    assert all((part.rate, part.channels) == (8000, channels) for part in parts)
    assert all(0 < part.seconds <= max(seconds, 1 / 8000) + 1e-9 for part in parts)
