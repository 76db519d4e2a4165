"""Stamps that survive G.711 and a change of the rate, as the way up of the Realtime protocol has them. Pure.

A frame is 40 steps of 4 samples (0.5 ms), each a constant level: two of a very high one (the beginning), then 38 digits
to the base of 4. What is read is a step's middle; at another rate than the telephone's, the mean of its middle half,
for resamplers ring. The levels are 8192 apart: companding moves them by 500 at most, resampling by 750 (ours, and
soxr at its best). Of the 76 bits a checksum has 14; the mark of the run and all others go into it. The time is in
units of 2 µs, modulo 33 s: no frame is under way for longer.
"""

from __future__ import annotations

import binascii
import struct
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from sts_trio.audio.pcm import RATE
from sts_trio.lab.load.stamps.base import Stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sts_trio.lab.sample_formats import SampleFormat

_STEP = 4  # samples at 8 kHz
_BEGINNING, _THRESHOLD = 28_160, 20_480
_LEVELS = (-12_288, -4096, 4096, 12_288)
_DIGITS = 38
_CALL, _NUMBER, _TIME, _FLAG, _CHECK = 14, 23, 24, 1, 14  # bits; 16,384 calls, 46 hours of frames
_UNIT_NS = 2000


def _steps(*levels: int) -> bytes:
    return b"".join(struct.pack("<h", level) * _STEP for level in levels)


_BEGIN = _steps(_BEGINNING, _BEGINNING)
_PAIRS = {ord(b"%x" % at): _steps(*pair) for at, pair in enumerate(product(_LEVELS, _LEVELS))}  # by hexadecimal digit


def _check(mark: int, body: int) -> int:
    return binascii.crc32(body.to_bytes(8, "big"), mark) & (1 << _CHECK) - 1


def g711_frame(mark: int, call: int, number: int, now_ns: int, *, counted: bool) -> bytes:
    """See `base.Stamper`; `mark` is the run's own."""
    time = now_ns // _UNIT_NS & (1 << _TIME) - 1
    body = ((call << _NUMBER | number) << _TIME | time) << _FLAG | counted
    text = b"%019x" % (body << _CHECK | _check(mark, body))
    return binascii.b2a_base64(_BEGIN + b"".join([_PAIRS[digit] for digit in text]), newline=False)


class G711StampReader:
    """See `base.StampReader`; `form` is that of the session. Frames of another run are damaged."""

    def __init__(self, mark: int, form: SampleFormat) -> None:
        self._mark = mark
        self._width = form.width
        self._step = _STEP * form.rate // RATE
        self._symbols = _symbols(form)
        self._rest = b""  # of a sample, and what the means need
        self._waiting = b""

    def read(self, audio: bytes, now_ns: int) -> Sequence[Stamp | None]:
        """See `base.StampReader`."""
        waiting = self._waiting + self._levels(audio).translate(self._symbols)
        found: list[Stamp | None] = []
        while (begin := waiting.find(b"B")) >= 0:
            digits = waiting[begin:].lstrip(
                b"B"
            )  # of a frame that was cut short in its beginning, the next one's follow
            first = self._step // 2
            end = first + (_DIGITS - 1) * self._step + 1
            if end > len(digits):
                waiting = b"B" + digits
                break
            stamp = self._stamp(digits[first : end : self._step], now_ns)
            found.append(stamp)
            waiting = digits[end if stamp else first :]  # in one that is cut short, the next has begun
        else:
            waiting = b""
        self._waiting = waiting
        return found

    def _levels(self, audio: bytes) -> bytes:
        """The last byte of each sample, and at a higher rate of the mean of each and those that follow it."""
        if self._width == 1:
            return audio
        audio = self._rest + audio
        whole = len(audio) & ~1
        if self._step == _STEP:
            self._rest = audio[whole:]
            return audio[1:whole:2]
        many = self._step // 2
        sums = np.concatenate(([0], np.cumsum(np.frombuffer(audio[:whole], "<i2"), dtype=np.int64)))
        means = ((sums[many:] - sums[:-many]) // many).astype("<i2").tobytes() if whole >= 2 * many else b""
        self._rest = audio[len(means) :]
        return means[1::2]

    def _stamp(self, digits: bytes, now_ns: int) -> Stamp | None:
        if b"B" in digits:
            return None
        value = int(digits, len(_LEVELS))
        body = value >> _CHECK
        if value & (1 << _CHECK) - 1 != _check(self._mark, body):
            return None
        counted, body = bool(body & 1), body >> _FLAG
        now = now_ns // _UNIT_NS
        age = now - body & (1 << _TIME) - 1
        body >>= _TIME
        return Stamp(body >> _NUMBER, body & (1 << _NUMBER) - 1, (now - age) * _UNIT_NS, counted)


@lru_cache
def _symbols(form: SampleFormat) -> bytes:
    """For each value of a sample's last byte the digit that its level is, or ``B``: a beginning."""
    return bytes(
        ord("B") if level >= _THRESHOLD else ord("0") + min(max((level + 16_384) // 8192, 0), 3)
        for level in form.levels
    )
