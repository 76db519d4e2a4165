"""Who acts when, for a whole process: one heap in place of a sleeping task for each call. No clock but its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import TypeAlias

from sts_trio.lab.harness.load.histogram import Histogram

Act: TypeAlias = Callable[[int], int | None]
"""Is given the time, and returns when it wants to act again; None: never."""

_BATCH = 64  # acts before the readers get their turn again
_FOR_EVER_NS = 2**60


@dataclass(slots=True)
class Wheel:
    """Times are ns of CLOCK_MONOTONIC, counted on from the first, so that no drift adds up.

    `late`: how far behind its time the process acts, in seconds: is it keeping up?
    """

    late: Histogram = field(default_factory=Histogram)
    clock: Callable[[], int] = time.monotonic_ns
    _acts: list[tuple[int, int, Act]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def add(self, due_ns: int, act: Act) -> None:
        """Have `act` called when it is due."""
        heappush(self._acts, (due_ns, next(self._order), act))

    def turn(self) -> int:
        """Do what is due, or as much of it as is good at a time; returns the ns until there is more."""
        acts = self._acts
        for _ in range(_BATCH):
            now = self.clock()
            if not acts or acts[0][0] > now:
                break
            due, _order, act = heappop(acts)
            self.late.add((now - due) / 1e9)
            again = act(now)
            if again is not None:
                self.add(again, act)
        return max(acts[0][0] - self.clock(), 0) if acts else _FOR_EVER_NS
