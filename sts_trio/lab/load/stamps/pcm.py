"""Stamps for a way up that is bit exact, such as EVI's: bytes in place of the samples. Pure.

A connector may put the samples into other pieces, but not change them, so the first 21 bytes of a frame are the stamp,
and the rest is always the same, to be compared.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sts_trio.audio.pcm import FRAME_BYTES
from sts_trio.lab.load.stamps.base import Stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

# Mark, number of the call, number of the frame, its time in ns with the lowest bit as the flag, and a byte that makes
# it a multiple of three, so that base64 of the stamp and of the rest can be put side by side.
_STAMP = struct.Struct("<IIIQx")
STAMP_BYTES = _STAMP.size
_BODY = bytes((37 * i * i + 11 * i) % 199 + 20 for i in range(FRAME_BYTES - STAMP_BYTES))
_BODY_BASE64 = binascii.b2a_base64(_BODY, newline=False)
# Audio that waits for the rest of its frame: a connector sends whole samples, but in pieces of any size. 20 s.
_MOST_WAITING = 1000 * FRAME_BYTES


def pcm_frame(mark: int, call: int, number: int, now_ns: int, *, counted: bool) -> bytes:
    """See `base.Stamper`; `mark` is the run's own."""
    time = now_ns & ~1 | counted
    return binascii.b2a_base64(_STAMP.pack(mark, call, number, time), newline=False) + _BODY_BASE64


@dataclass(slots=True)
class PcmStampReader:
    """See `base.StampReader`. Frames of another run, with another mark, are not seen."""

    mark: int
    _waiting: bytearray = field(default_factory=bytearray)

    def read(self, audio: bytes, now_ns: int) -> Sequence[Stamp | None]:  # noqa: ARG002  the stamp has the whole time
        """See `base.StampReader`."""
        if not self._waiting and len(audio) == FRAME_BYTES and (whole := self._frame(audio)):
            return whole
        waiting = self._waiting
        waiting += audio
        mark = self.mark.to_bytes(4, "little")
        found: list[Stamp | None] = []
        while (at := waiting.find(mark)) >= 0:
            del waiting[:at]
            if len(waiting) < FRAME_BYTES:
                break
            found += self._frame(bytes(waiting[:FRAME_BYTES]))
            del waiting[:4]  # not the whole frame: of one that is cut short, the next mark is inside of it
        else:
            del waiting[:-3]
        if len(waiting) > _MOST_WAITING:
            waiting.clear()
        return found

    def _frame(self, frame: bytes) -> tuple[Stamp | None, ...]:
        """Read the stamp of a whole frame; empty if it does not begin with the mark, (None,) if it is damaged."""
        mark, call, number, time = _STAMP.unpack_from(frame)
        if mark != self.mark:
            return ()
        return (Stamp(call, number, time, bool(time & 1)) if frame[STAMP_BYTES:] == _BODY else None,)
