"""Stamps in the agent's audio: they survive what a connector may do to audio, and tell what it must not do."""

from __future__ import annotations

import base64
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from sts_trio.audio.pcm import parse_wav
from sts_trio.audio.resample import TelephoneResampler
from sts_trio.lab.load.stamps.down import FRAME_SAMPLES, NUMBERS, RawMaker, Reader, WavMaker
from sts_trio.lab.sample_formats import find_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

if TYPE_CHECKING:
    from collections.abc import Callable

CALL, CHUNKS = 5, 12
FIRST = NUMBERS - 20  # the numbers begin again within the recording


def _wavs(rate: int) -> list[bytes]:
    maker = WavMaker(rate)
    return [base64.b64decode(maker.chunk(CALL, FIRST + 10 * n), validate=True) for n in range(CHUNKS)]


def _samples(rate: int) -> np.ndarray:
    return np.concatenate([np.frombuffer(parse_wav(wav).pcm, "<i2") for wav in _wavs(rate)])


def _ours(rate: int) -> np.ndarray:
    resampler = TelephoneResampler()
    pcm = b"".join(resampler.feed(parse_wav(wav)) for wav in _wavs(rate)) + resampler.flush()
    return np.frombuffer(pcm, "<i2")


def _drifting(rate: int) -> np.ndarray:
    samples = _samples(rate)
    heard: np.ndarray = np.interp(
        np.arange(0, len(samples) - 1, rate / 8000 * 1.0005), np.arange(len(samples)), samples
    )
    return heard


def _mu_law(rate: int) -> np.ndarray:
    heard = soxr.resample(_samples(rate), rate, 8000, quality="MQ") / 32768
    coded = np.round(np.sign(heard) * np.log1p(255 * np.abs(heard)) / np.log(256) * 127) / 127
    decoded: np.ndarray = np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255 * 32767
    return decoded


CONNECTORS = {
    "our own resampler": _ours,
    "every sixth or third sample": lambda rate: _samples(rate)[2 :: rate // 8000],
    "linear interpolation that drifts": _drifting,
    "soxr's worst": lambda rate: soxr.resample(_samples(rate), rate, 8000, quality="QQ"),
    "soxr's best": lambda rate: soxr.resample(_samples(rate), rate, 8000, quality="VHQ"),
    "mu-law on the way": _mu_law,
}


def _pcm(samples: np.ndarray) -> bytes:
    pcm: bytes = np.clip(np.rint(samples), -32768, 32767).astype("<i2").tobytes()
    return pcm


def _read(reader: Reader, pcm: bytes, size: int) -> list[int | None]:
    return [number for at in range(0, len(pcm), size) for number, _ in reader.read(pcm[at : at + size], at)]


@pytest.mark.parametrize("rate", [48_000, 24_000])
@pytest.mark.parametrize("connector", CONNECTORS)
@pytest.mark.parametrize("size", [320, 1600, 154])
def test_every_frame_is_found_again_in_order(connector: str, rate: int, size: int) -> None:
    reader = Reader(CALL)
    heard = _read(reader, _pcm(CONNECTORS[connector](rate)), size)
    assert heard == [(FIRST + n) % NUMBERS for n in range(10 * CHUNKS)]
    assert reader.damaged == 0


@pytest.mark.parametrize(
    ("kind", "rate", "decode"),
    [
        ("audio/pcmu", 8000, lambda data: audioop.ulaw2lin(data, 2)),
        ("audio/pcma", 8000, lambda data: audioop.alaw2lin(data, 2)),
        ("audio/pcm", 8000, bytes),
        ("audio/pcm", 24_000, lambda data: np.frombuffer(data, "<i2")[1::3].tobytes()),
    ],
)
def test_bare_samples_hold_the_same_frames_in_any_form(kind: str, rate: int, decode: Callable[[bytes], bytes]) -> None:
    form = find_format(kind, rate)
    assert form is not None
    maker = RawMaker(form)
    chunks = [base64.b64decode(maker.chunk(CALL, FIRST + 10 * n), validate=True) for n in range(CHUNKS)]
    assert {len(chunk) for chunk in chunks} == {rate // 5 * form.width}
    reader = Reader(CALL)
    assert _read(reader, decode(b"".join(chunks)), 320) == [(FIRST + n) % NUMBERS for n in range(10 * CHUNKS)]


def test_a_chunk_is_a_wav_of_200_ms_with_the_plain_header() -> None:
    wav = _wavs(48_000)[0]
    assert len(wav) == 44 + 19_200
    assert parse_wav(wav).seconds == 0.2


@given(st.lists(st.integers(1, 900), min_size=1, max_size=30))
def test_where_messages_are_cut_changes_nothing(cuts: list[int]) -> None:
    pcm = _pcm(_samples(48_000)[::6])
    reader, heard, at = Reader(CALL), [], 0
    for cut in [*cuts, len(pcm)]:
        heard += [number for number, _ in reader.read(pcm[at : at + 2 * cut], 0.0)]
        at += 2 * cut
    assert heard == [(FIRST + n) % NUMBERS for n in range(10 * CHUNKS)]


def test_a_frame_arrives_with_its_beginning() -> None:
    pcm = _pcm(_samples(48_000)[::6])
    reader = Reader(CALL)
    assert reader.read(pcm[:200], 1.0) == []
    assert reader.read(pcm[200:700], 2.0) == [(FIRST, 1.0), (FIRST + 1, 2.0)]


def test_half_a_sample_is_damage_and_no_more() -> None:
    pcm = _pcm(_samples(48_000)[::6])[: 4 * 2 * FRAME_SAMPLES]
    reader = Reader(CALL)
    assert reader.read(b"\0", 0.0) == []
    assert [number for number, _ in reader.read(pcm + b"\0", 0.0)] == [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]
    assert reader.damaged == 2


def test_another_calls_audio_and_frames_cut_short_are_damaged() -> None:
    pcm = _pcm(_samples(48_000)[::6])
    stranger = Reader(CALL + 1)
    assert set(_read(stranger, pcm, 1600)) == {None}
    assert stranger.damaged == 10 * CHUNKS

    frame = 2 * FRAME_SAMPLES
    cut = Reader(CALL)
    heard = _read(cut, pcm[: frame // 2 + 20] + pcm[frame : 4 * frame], 1600)
    assert heard == [None, FIRST + 1, FIRST + 2, FIRST + 3]
