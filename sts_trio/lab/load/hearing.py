"""What a caller hears in a load: which of the agent's frames, when, and in which order.

`SharedTimes` is how the agents tell the callers when they wrote which audio: memory shared by the two processes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sts_trio.audio.pcm import FRAME_SECONDS
from sts_trio.lab.load.histogram import Histogram
from sts_trio.lab.load.stamps.down import FRAMES_PER_CHUNK, NUMBERS, Reader

if TYPE_CHECKING:
    from pathlib import Path

_TURNS = 32  # turns remembered; a chatty call has one every two seconds
_ROW = 4 + 2 * _TURNS


class SharedTimes:
    """When the agents wrote which audio: a file of `calls` rows, mapped into the memory of both processes.

    A row has 64-bit numbers and one writer, the agents. The callers look at it when the audio arrives, so after it was
    written. Times are ns of CLOCK_MONOTONIC.
    """

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
        """Return the number of cuts so far and, of the last one, its first frame, the frame after it, and its time."""
        count, begin, end, at = self._rows[call, :4].tolist()
        return count, begin, end, at


_MOST_LATE = 1000  # missing frames of a call that are waited for, in case they come in the wrong order
_JUST_LATE = 0.001  # a frame that comes a millisecond after its time is heard without a hole, for Core plays in frames


@dataclass(slots=True)
class DownArrivals:
    """What has been measured of the way down, of all calls together.

    `first`: from the agent's writing of a turn's first chunk to the caller's receipt of its beginning. `late`: of every
    later frame, how much after its time it came, had the turn played on from its first frame without a break.
    `stop`: from the agent's word that it was interrupted to the caller's receipt of that.
    """

    first: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    stop: Histogram = field(default_factory=Histogram)
    received: int = 0
    holes: int = 0


@dataclass(slots=True)
class CallHearing:
    """What one caller hears. Times are seconds of CLOCK_MONOTONIC.

    `stale`: frames of an interrupted turn that came after the `interruption`.
    """

    call: int
    times: SharedTimes
    heard: DownArrivals
    window: tuple[float, float]
    received: int = 0
    doubled: int = 0
    reordered: int = 0
    stale: int = 0
    interruptions: int = 0
    _reader: Reader = field(init=False)
    _next: int = 0
    _unread: int = 0
    _missing: set[int] = field(default_factory=set)
    _given_up: int = 0
    _stale_below: int = 0
    _turn_at: float = 0.0
    _turn_frame: int = 0

    def __post_init__(self) -> None:
        self._reader = Reader(self.call)

    @property
    def damaged(self) -> int:
        """Frames that cannot be read: cut into, changed, or another call's."""
        return self._reader.damaged

    @property
    def lost(self) -> int:
        """Frames that did not come, but a later one did; those that an interruption took back are not lost."""
        return len(self._missing) + self._given_up

    def audio(self, pcm: bytes, now: float) -> None:
        """Take a message's audio."""
        for code, at in self._reader.read(pcm, now):
            if code is None:
                self._unread += 1
                continue
            # The nearest number to the one that is due.
            ahead = (code - self._next + NUMBERS // 2) % NUMBERS - NUMBERS // 2
            self._frame(self._next + ahead, at)

    def interruption(self, now: float) -> None:
        """Take an `interruption`."""
        self._reader.forget()
        count, begin, end, at_ns = self.times.last_cut(self.call)
        if self.interruptions >= count:
            self.doubled += 1
            return
        self.interruptions = count
        self._stale_below = end
        if self._counts(now):
            self.heard.stop.add(now - at_ns / 1e9)
        self._excuse(begin, end)

    def _frame(self, number: int, at: float) -> None:
        self.heard.received += 1
        self.received += 1
        if number < self._stale_below:
            self.stale += 1
            return
        if number < self._next:
            if number in self._missing:
                self._missing.discard(number)
                self.reordered += 1
            else:
                self.doubled += 1
            return
        # A turn begins with a chunk.
        began = self.times.turn_time(self.call, number) if number % FRAMES_PER_CHUNK == 0 else None
        if number > self._next:
            self._miss(self._next, number)
        self._next, self._unread = number + 1, 0
        if began is not None:
            self._turn_at, self._turn_frame = at, number
            if self._counts(at):
                self.heard.first.add(at - began / 1e9)
        elif self._turn_at and self._counts(at):
            late = at - self._turn_at - (number - self._turn_frame) * FRAME_SECONDS
            self.heard.late.add(max(late, 0.0))
            if late > _JUST_LATE:
                self.heard.holes += 1
                self._turn_at += late  # the rest plays on from here

    def _miss(self, begin: int, end: int) -> None:
        _, cut_begin, cut_end, _ = self.times.last_cut(self.call)
        missing = [number for number in range(begin, end) if not cut_begin <= number < cut_end]
        missing = missing[: max(len(missing) - self._unread, 0)]  # those did come, but without a readable number
        room = _MOST_LATE - len(self._missing)
        self._missing.update(missing[:room])
        self._given_up += len(missing[room:])

    def _excuse(self, begin: int, end: int) -> None:
        self._missing -= set(range(begin, end))

    def _counts(self, now: float) -> bool:
        return self.window[0] <= now < self.window[1]
