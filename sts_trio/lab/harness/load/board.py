"""What the agents tell the callers beside the calls: when they wrote which audio. Memory shared by two processes.

A row for each call, of 64-bit numbers; one writer. The callers look at it when the audio arrives, so after it was
written. Times are ns of CLOCK_MONOTONIC.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

_TURNS = 32  # turns remembered; a chatty call has one every two seconds
_ROW = 4 + 2 * _TURNS


class Board:
    """A file of `calls` rows, mapped into memory."""

    def __init__(self, path: Path, calls: int, *, create: bool = False) -> None:
        self._rows = np.memmap(path, np.int64, "w+" if create else "r+", shape=(calls, _ROW))

    def turn_begins(self, call: int, number: int, frame: int, now_ns: int) -> None:
        """The first chunk of turn `number` (from 0) is about to be written; it begins with `frame`."""
        at = 4 + number % _TURNS * 2
        self._rows[call, at] = frame
        self._rows[call, at + 1] = now_ns

    def turn_time(self, call: int, frame: int) -> int | None:
        """When the turn that begins with `frame` was written; None if none does."""
        row = self._rows[call]
        found = np.flatnonzero(row[4::2] == frame)
        return next((int(row[5 + 2 * int(at)]) for at in found if row[5 + 2 * int(at)]), None)

    def cut(self, call: int, begin: int, end: int, now_ns: int) -> None:
        """The agent is interrupted in the turn of the frames from `begin` to before `end`."""
        self._rows[call, 1:4] = begin, end, now_ns
        self._rows[call, 0] += 1  # last: who reads it finds the rest in place

    def last_cut(self, call: int) -> tuple[int, int, int, int]:
        """How many there were; of the last one the first frame, the one after the last, and the time."""
        count, begin, end, at = self._rows[call, :4].tolist()
        return count, begin, end, at
