"""A run over time: what its live table showed, kept for the curves of a page. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sts_trio.lab.load.plan import Glance
    from sts_trio.lab.load.run import Now

# There are two looks a second. A load may last a day: of more than these every other one goes, 20 minutes in full.
MOST_POINTS = 2400


@dataclass(frozen=True, slots=True)
class Point:
    """One look at a run, `at` seconds after the first one.

    Latencies in ms, of all until then; CPU in per cent of a core, since the look before.
    """

    at: float
    measuring: bool
    calls: int
    up_p50: float | None
    up_p99: float | None
    first_p50: float | None
    first_p99: float | None
    server: float | None
    load: float | None


@dataclass(slots=True)
class Curves:
    """The looks at one run, in order."""

    points: list[Point] = field(default_factory=list)
    _first: float | None = None
    _every: int = 1
    _seen: int = 0

    def add(self, now: Now) -> None:
        """Keep a look, unless there are many already."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        if len(self.points) >= MOST_POINTS:
            self._every *= 2
            del self.points[1::2]
        if self._first is None:
            self._first = now.elapsed
        server = None if now.server is None else now.server / 10
        load = now.load / 10 if self.points else None  # CPU is what was used since the look before
        up, first = _ms(now.up), _ms(now.down)
        self.points.append(Point(now.elapsed - self._first, now.measuring, now.down.calls, *up, *first, server, load))

    @property
    def seconds(self) -> float:
        """When the last look was."""
        return self.points[-1].at if self.points else 0.0


def _ms(glance: Glance) -> tuple[float | None, float | None]:
    p50, p99 = (None if each is None else each * 1000 for each in (glance.p50, glance.p99))
    return p50, p99
