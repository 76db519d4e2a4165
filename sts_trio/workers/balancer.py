"""Which worker gets the next connection, and how the places are shared out. Pure: time is an argument, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from sts_trio.workers.wire import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

# On their way to one worker. It takes them within a millisecond; when none of the workers does, the rest wait in the
# kernel's queue, as with one process that is busy. Far below what a `Channel` holds.
MOST_ON_THE_WAY = 64
# A worker that has taken nothing for so long is stuck (a tool that holds the interpreter): others come first.
_STUCK_SECONDS = 1.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0  # a worker that lived so long had no trouble with starting


def shares(most: int, workers: int) -> list[int]:
    """Share `most` places out, so that no share is larger than another by more than one. 0 stands for any number."""
    return [most // workers + (number < most % workers) for number in range(workers)]


class Load:
    """What the switch knows of one worker's process: its last report, and what was handed to it since.

    `share`: the places it has; 0: any number.
    """

    def __init__(self, share: int) -> None:
        self.share = share
        self.report: Report | None = None
        """None: it has not said yet that it is there."""
        self._handed = 0
        self._moved_at = 0.0

    @property
    def on_the_way(self) -> int:
        """Connections that were handed to it, and it has not told of yet."""
        return self._handed - (self.report.taken if self.report else 0)

    @property
    def live(self) -> int:
        """Its calls."""
        return self.report.live if self.report else 0

    @property
    def free(self) -> int:
        """The more, the better: its places, less the taken and those that connections without a word yet may take."""
        report = self.report or Report()
        return self.share - report.places - report.new - self.on_the_way

    def has_room(self, now: float) -> bool:
        """Whether it would take a call, for all that is known for certain."""
        report = self.report
        if report is None or not report.ready or self.is_stuck(now):
            return False
        return self.share == 0 or report.places < self.share

    def surely_has_room(self, now: float) -> bool:
        """The same, whatever becomes of the connections that are new or on their way."""
        return self.has_room(now) and (self.share == 0 or self.free > 0)

    def is_stuck(self, now: float) -> bool:
        """Whether it takes nothing of what is on its way."""
        return self.on_the_way > 0 and now - self._moved_at > _STUCK_SECONDS

    def can_take(self) -> bool:
        """Whether it may be handed a connection at all, if only to refuse it."""
        return self.report is not None and not self.report.leaving and self.on_the_way < MOST_ON_THE_WAY

    def hand(self, now: float) -> None:
        """A connection was handed to it."""
        if self.on_the_way == 0:
            self._moved_at = now
        self._handed += 1

    def hear(self, report: Report, now: float) -> None:
        """It has told what it has."""
        if self.report is None or report.taken != self.report.taken:
            self._moved_at = now
        self.report = report


class Loaded(Protocol):
    """Whoever has a load."""

    @property
    def load(self) -> Load: ...


T = TypeVar("T", bound=Loaded)


def ranked(workers: Iterable[T], now: float) -> list[T]:
    """Return who may get the next connection, the best first: of those with room the one with most of it.

    When nobody has room somebody gets it all the same: a worker says 503 to a call, and answers what is no call.
    """
    return sorted(
        (worker for worker in workers if worker.load.can_take()),
        key=lambda worker: (worker.load.has_room(now), not worker.load.is_stuck(now), worker.load.free),
        reverse=True,
    )


def is_open(workers: Iterable[Loaded], now: float) -> bool:
    """Whether it is still open who has room: the last places may go to connections of which nothing is known yet.

    A call that came to one of them then might be refused by it while another has a place.
    """
    loads = [worker.load for worker in workers]
    return any(load.has_room(now) for load in loads) and not any(load.surely_has_room(now) for load in loads)


class Backoff:
    """How long to wait before a worker that died is started again."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self, lived: float) -> float:
        """Return the pause after one that lived so long."""
        if lived >= _STEADY_SECONDS:
            self._pause = _FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause
