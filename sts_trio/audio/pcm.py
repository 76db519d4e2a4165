"""The format of a telephone call, and how its bytes are cut. Pure.

Everywhere on Core's side audio is PCM, signed 16 bit, little-endian, 8000 Hz, mono (docs/protocols/core.md 3).
A *frame* is 20 ms of it: 160 samples, 320 bytes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE = 8000
SAMPLE_BYTES = 2
BYTES_PER_SECOND = RATE * SAMPLE_BYTES
FRAME_SECONDS = 0.02
FRAME_BYTES = 320
_LOUD = 512


def seconds(size: int) -> float:
    """How long `size` bytes of telephone audio last, in seconds."""
    return size / BYTES_PER_SECOND


def pieces(data: bytes, size: int = FRAME_BYTES) -> Iterator[bytes]:
    """Cut `data` into pieces of `size` bytes; the last may be shorter. Nothing is copied when one is enough."""
    if len(data) <= size:
        if data:
            yield data
        return
    for start in range(0, len(data), size):
        yield data[start : start + size]


def is_loud(pcm: bytes) -> bool:
    """Whether somebody may be speaking in this frame: its peak is above -36 dBFS, where line noise is not."""
    return bool(pcm) and int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max()) > _LOUD


_BLOCK_BYTES = BYTES_PER_SECOND


class PcmQueue:
    """Audio that waits, first in, first out, of any length; `size` in bytes.

    It lies in blocks of a second, so that little pieces cost no more than their bytes, what has left is freed, and
    nothing is ever moved: one long buffer would be copied, and so take its memory twice, as it grows.
    """

    def __init__(self) -> None:
        self.size = 0
        self._blocks: deque[bytes | bytearray] = deque()
        self._begin = 0  # how much of the first block has left

    def append(self, pcm: bytes) -> None:
        """Add to the end."""
        self.size += len(pcm)
        last = self._blocks[-1] if self._blocks else b""
        if isinstance(last, bytearray) and len(last) + len(pcm) <= _BLOCK_BYTES:
            last += pcm
            return
        if last:
            self._blocks[-1] = bytes(last)  # without the room to grow, an eighth
        for piece in pieces(pcm, _BLOCK_BYTES):
            self._blocks.append(bytearray(piece))

    def take(self, size: int) -> bytes:
        """Remove the first `size` bytes, or what there is, and return them."""
        taken = b""
        while self._blocks and len(taken) < size:
            first = self._blocks[0]
            end = self._begin + size - len(taken)
            taken += first[self._begin : end]
            if end < len(first):
                self._begin = end
            else:
                self._blocks.popleft()
                self._begin = 0
        self.size -= len(taken)
        return taken


class SampleAligner:
    """Keeps whole samples together: an odd last byte waits for the next piece of the same stream."""

    def __init__(self) -> None:
        self._carry = b""

    def feed(self, data: bytes) -> bytes:
        """Return the whole samples in what waited and `data`."""
        if self._carry:
            data = self._carry + data
            self._carry = b""
        if len(data) & 1:
            self._carry = data[-1:]
            return data[:-1]
        return data
