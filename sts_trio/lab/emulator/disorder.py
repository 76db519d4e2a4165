"""What becomes of a reply's chunks before they are sent: late, swapped, doubled. And of messages on their way: delay.

Nothing here waits. A turn is an iterator of (seconds of speech since its beginning, what to send).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from typing import TYPE_CHECKING

from sts_trio.lab.emulator.actions import Late
from sts_trio.lab.emulator.script import DoubledChunks, LateChunks, SwappedChunks
from sts_trio.lab.emulator.wire import AssistantEnd, AudioOutput, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from sts_trio.lab.emulator.actions import Item, Turn
    from sts_trio.lab.emulator.script import Disorder

MAX_WAITING = 1000  # messages on their way; the longest are audio, 20 kB each


def disturbed(turn: Turn, disorder: Disorder) -> Turn:
    """Return the turn as this fault makes it."""
    match disorder:
        case LateChunks(count=count, by=by):
            return _late(turn, count, by)
        case SwappedChunks():
            return _swapped(turn)
        case DoubledChunks():
            return _doubled(turn)


def _late(turn: Turn, count: int, by: float) -> Turn:
    held: deque[tuple[float, Item]] = deque()
    for at, item in turn:
        if isinstance(item, AudioOutput):
            held.append((at, item))
            if len(held) > count:
                yield held.popleft()
            continue
        yield at, item
        if isinstance(item, AssistantEnd | ToolCall):
            yield from ((at, Late(chunk, by)) for _, chunk in held if isinstance(chunk, AudioOutput))
            held.clear()


def _swapped(turn: Turn) -> Turn:
    held: tuple[float, Item] | None = None
    for at, item in turn:
        if isinstance(item, AudioOutput):
            if held is None:
                held = (at, item)
                continue
            yield at, item
        if held is not None:
            yield at, held[1]
            held = None
        if not isinstance(item, AudioOutput):
            yield at, item
    if held is not None:
        yield held


def _doubled(turn: Turn) -> Iterator[tuple[float, Item]]:
    for at, item in turn:
        yield at, item
        if isinstance(item, AudioOutput | Late):
            yield at, item


class Line:
    """The way to the client: what is put in comes out after the delay, in order; only `Late` ones are overtaken."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._delay = self._jitter = 0.0
        self._order = itertools.count()
        self._last = -math.inf
        self._waiting: list[tuple[float, int, Item]] = []

    def delay(self, seconds: float, jitter: float) -> None:
        """From now on each message is `seconds` on its way, and up to `jitter` seconds more."""
        self._delay, self._jitter = seconds, jitter

    @property
    def full(self) -> bool:
        """Whether nothing more should be put in for now."""
        return len(self._waiting) >= MAX_WAITING

    @property
    def due(self) -> float:
        """When `pop` will next have something."""
        return self._waiting[0][0] if self._waiting else math.inf

    def put(self, item: Item, now: float) -> None:
        """Send on its way."""
        due = now + self._delay + (self._rng.uniform(0, self._jitter) if self._jitter else 0.0)
        if isinstance(item, Late):
            due += item.by
            item = item.chunk
        else:
            due = self._last = max(due, self._last)
        heapq.heappush(self._waiting, (due, next(self._order), item))

    def pop(self, now: float) -> Item | None:
        """Return what arrives now, if anything."""
        return heapq.heappop(self._waiting)[2] if self.due <= now else None
