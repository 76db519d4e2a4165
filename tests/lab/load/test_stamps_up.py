"""Stamps in the caller's audio, whatever pieces it comes in, and whatever a provider's protocol does to it."""

from __future__ import annotations

import base64
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soxr
from hypothesis import example, given
from hypothesis import strategies as st

from sts_trio.audio.resample import CallerResampler
from sts_trio.lab.load.stamps.base import Arrivals, UpstreamCount
from sts_trio.lab.load.stamps.g711 import G711StampReader, g711_frame
from sts_trio.lab.load.stamps.pcm import PcmStampReader, pcm_frame
from sts_trio.lab.sample_formats import SampleFormat, find_format

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

if TYPE_CHECKING:
    from collections.abc import Callable

MARK = 0x5EED1234
MS = 1_000_000


class Line:
    """An agent's end of a way up that leaves the samples as they are, and the count behind it."""

    def __init__(self) -> None:
        self.reader = PcmStampReader(MARK)
        self.count = UpstreamCount(Arrivals())

    def feed(self, audio: bytes, now_ns: int) -> None:
        self.count.take(self.reader.read(audio, now_ns), now_ns)


def _frame(number: int, call: int = 3, mark: int = MARK, sent_ms: float = 0.0) -> bytes:
    return base64.b64decode(pcm_frame(mark, call, number, round(sent_ms * MS), counted=True), validate=True)


def _count(*numbers: int) -> UpstreamCount:
    line = Line()
    for number in numbers:
        line.feed(_frame(number), 1)
    return line.count


def _line() -> tuple[Line, UpstreamCount]:
    line = Line()
    return line, line.count


def _wrong(count: UpstreamCount) -> tuple[int, int, int, int]:
    return count.lost, count.doubled, count.reordered, count.damaged


def test_a_frame_is_20_ms_and_tells_its_call_and_how_long_it_took() -> None:
    line, count = _line()
    assert len(_frame(0)) == 320
    line.feed(_frame(7, sent_ms=100), 104 * MS)
    assert (count.call, count.first, count.received) == (3, 7, 1)
    assert count.arrivals.latency.largest == pytest.approx(0.004, abs=1e-6)


@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((4, 5, 6), (0, 0, 0, 0)),
        ((0, 1, 4), (2, 0, 0, 0)),
        ((0, 1, 1, 2), (0, 1, 0, 0)),
        ((0, 2, 1, 3), (0, 0, 1, 0)),
        ((0, 2, 1, 1, 5), (2, 1, 1, 0)),
        ((3, 2), (0, 1, 0, 0)),
    ],
)
def test_what_is_wrong_with_the_order_is_counted(numbers: tuple[int, ...], wrong: tuple[int, ...]) -> None:
    assert _wrong(_count(*numbers)) == wrong


def test_frames_of_another_run_are_nobodys_and_changed_ones_damaged() -> None:
    line, count = _line()
    line.feed(_frame(0), 1)
    line.feed(_frame(1, mark=MARK + 1), 1)
    assert (count.received, count.damaged) == (1, 0)
    line.feed(_frame(1)[:-1] + b"\0", 1)
    line.feed(_frame(2, call=4), 1)
    assert (count.received, count.damaged) == (1, 2)


@given(st.lists(st.integers(1, 1500), max_size=40))
def test_pieces_of_any_size_hold_the_same_frames(sizes: list[int]) -> None:
    audio = b"".join(_frame(number) for number in range(20))
    (line, count), at = _line(), 0
    for size in [*sizes, len(audio)]:
        line.feed(audio[at : at + size], 1)
        at += size
    assert (count.received, _wrong(count)) == (20, (0, 0, 0, 0))


@given(st.integers(0, 18), st.integers(1, 319))
def test_a_frame_cut_short_spoils_no_other(which: int, missing: int) -> None:
    frames = [_frame(number) for number in range(20)]
    frames[which] = frames[which][:-missing]
    line, count = _line()
    audio = b"".join(frames)
    for at in range(0, len(audio), 1000):
        line.feed(audio[at : at + 1000], 1)
    assert count.received == 19
    assert count.last == 19


# Stamps that survive a codec.

SENT = 123_456_789_012_344  # ns; any time is told to within 2 µs
AFTER = 31_000_000_000  # the longest time under way that a stamp can tell is 33 s


def _coarse(number: int, call: int = 3, mark: int = MARK) -> bytes:
    return base64.b64decode(g711_frame(mark, call, number, SENT + number, counted=number % 2 == 0), validate=True)


def _form(kind: str, rate: int = 8000) -> SampleFormat:
    form = find_format(kind, rate)
    assert form is not None
    return form


def _upsampled(quality: str) -> Callable[[bytes], bytes]:
    def resample(pcm: bytes) -> bytes:
        samples = soxr.resample(np.frombuffer(pcm, "<i2"), 8000, 24_000, quality=quality)
        resampled: bytes = samples.tobytes()
        return resampled

    return resample


def _interpolated(pcm: bytes) -> bytes:
    samples = np.frombuffer(pcm, "<i2")
    between = np.interp(np.arange(3 * len(samples)) / 3, np.arange(len(samples)), samples)
    resampled: bytes = between.astype("<i2").tobytes()
    return resampled


def _ours(pcm: bytes) -> bytes:
    resampler = CallerResampler(24_000)
    return b"".join(resampler.feed(pcm[at : at + 320]) for at in range(0, len(pcm), 320))


CODECS: dict[str, tuple[SampleFormat, Callable[[bytes], bytes]]] = {
    "linear": (_form("audio/pcm"), bytes),
    "mu-law": (_form("audio/pcmu"), lambda pcm: audioop.lin2ulaw(pcm, 2)),
    "A-law": (_form("audio/pcma"), lambda pcm: audioop.lin2alaw(pcm, 2)),
    "our resampler": (_form("audio/pcm", 24_000), _ours),
    "soxr's best": (_form("audio/pcm", 24_000), _upsampled("VHQ")),
    "soxr's worst": (_form("audio/pcm", 24_000), _upsampled("QQ")),
    "linear interpolation": (_form("audio/pcm", 24_000), _interpolated),
    "each sample three times": (
        _form("audio/pcm", 24_000),
        lambda pcm: np.repeat(np.frombuffer(pcm, "<i2"), 3).tobytes(),
    ),
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [160, 320, 961, 7])
def test_coarse_stamps_tell_call_number_time_and_flag_behind_any_codec(codec: str, size: int) -> None:
    form, encode = CODECS[codec]
    numbers = [*range(200), (1 << 23) - 1]
    audio = encode(b"".join(_coarse(number, call=9_999) for number in numbers) + bytes(320))
    reader, now = G711StampReader(MARK, form), SENT + AFTER
    stamps = [stamp for at in range(0, len(audio), size) for stamp in reader.read(audio[at : at + size], now)]
    assert [stamp and (stamp.call, stamp.number, stamp.counted) for stamp in stamps] == [
        (9_999, number, number % 2 == 0) for number in numbers
    ]
    assert all(
        0 <= SENT + number - stamp.sent_ns < 2000 for number, stamp in zip(numbers, stamps, strict=True) if stamp
    )


def test_coarse_frames_that_are_changed_or_of_another_run_are_damaged() -> None:
    reader = G711StampReader(MARK, _form("audio/pcm"))
    changed = bytearray(_coarse(1))
    changed[104:112] = bytes(byte ^ 0xFF for byte in changed[104:112])  # a digit is another
    assert list(reader.read(_coarse(0) + bytes(changed) + _coarse(2, mark=MARK + 1), SENT))[1:] == [None, None]
    assert reader.read(bytes(3200) + _coarse(3)[:200], SENT) == []  # silence is nothing


@given(st.integers(0, 18), st.integers(1, 159))
@example(0, 154)  # in its beginning
def test_a_coarse_frame_cut_short_spoils_no_other(which: int, missing: int) -> None:
    frames = [audioop.lin2ulaw(_coarse(number), 2) for number in range(20)]
    frames[which] = frames[which][:-missing]
    reader, audio = G711StampReader(MARK, _form("audio/pcmu")), b"".join(frames)
    stamps = [stamp for at in range(0, len(audio), 500) for stamp in reader.read(audio[at : at + 500], SENT)]
    numbers = {stamp.number for stamp in stamps if stamp}
    assert numbers >= set(range(20)) - {which}


def test_the_laws_are_those_of_the_standard() -> None:
    codes = bytes(range(256))
    for kind, decode in (("audio/pcmu", audioop.ulaw2lin), ("audio/pcma", audioop.alaw2lin)):
        form = _form(kind)
        assert list(form.levels) == np.frombuffer(decode(codes, 2), "<i2").tolist()
        assert form.write(form.levels[7]) == b"\x07"
    assert (find_format("audio/pcm", 44_100), find_format("audio/opus", None)) == (None, None)
    assert _form("audio/pcm").write(-256) == b"\0\xff"
