"""Which worker gets the next connection, and how the places are shared out. Pure: time is an argument, in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from sts_trio.workers.channel import Report

if TYPE_CHECKING:
    from collections.abc import Iterable

# Connections in flight to one worker. It takes them within a millisecond; when no worker does, further connections
# wait in the kernel's queue, as with one process that is busy. Far below what a `Channel` holds.
MAX_IN_FLIGHT = 64
# A worker that has taken nothing for so long is stuck (a tool that holds the interpreter): others come first.
_STUCK_SECONDS = 1.0
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0  # a worker that lived so long had no trouble with starting


def shares(most: int, workers: int) -> list[int]:
    """Share `most` places out, so that no share is larger than another by more than one. 0 stands for any number."""
    return [most // workers + (number < most % workers) for number in range(workers)]


class Load:
    """What the supervisor knows of one worker process: its last report, and the connections passed to it since.

    `share`: the places it has; 0: any number.
    """

    def __init__(self, share: int) -> None:
        self.share = share
        self.report: Report | None = None
        """None: the process has not reported yet."""
        self._passed = 0
        self._moved_at = 0.0

    @property
    def in_flight(self) -> int:
        """Connections that were passed to it and that it has not reported as taken."""
        return self._passed - (self.report.taken if self.report else 0)

    @property
    def live(self) -> int:
        """Its calls."""
        return self.report.live if self.report else 0

    @property
    def free(self) -> int:
        """Its places, less those that are taken and those that connections without a request yet may take.

        With any number of places (share 0) it is negative; it still ranks workers.
        """
        report = self.report or Report()
        return self.share - report.places - report.new - self.in_flight

    def has_room(self, now: float) -> bool:
        """Whether it would take a call, if none of the connections that are new or in flight becomes one."""
        report = self.report
        if report is None or not report.ready or self.is_stuck(now):
            return False
        return self.share == 0 or report.places < self.share

    def surely_has_room(self, now: float) -> bool:
        """Whether it would take a call, even if each connection that is new or in flight becomes one."""
        return self.has_room(now) and (self.share == 0 or self.free > 0)

    def is_stuck(self, now: float) -> bool:
        """Whether it has taken nothing of what is in flight to it for `_STUCK_SECONDS`."""
        return self.in_flight > 0 and now - self._moved_at > _STUCK_SECONDS

    def can_accept(self) -> bool:
        """Whether it may be passed a connection at all, if only to refuse it."""
        return self.report is not None and not self.report.detached and self.in_flight < MAX_IN_FLIGHT

    def on_passed(self, now: float) -> None:
        """A connection was passed to it."""
        if self.in_flight == 0:
            self._moved_at = now
        self._passed += 1

    def on_report(self, report: Report, now: float) -> None:
        """A report of it has come."""
        if self.report is None or report.taken != self.report.taken:
            self._moved_at = now
        self.report = report


class HasLoad(Protocol):
    """Anything that has a load."""

    @property
    def load(self) -> Load: ...


T = TypeVar("T", bound=HasLoad)


def ranked(workers: Iterable[T], now: float) -> list[T]:
    """Return the workers that may get the next connection, the one with most room first.

    Workers without room are last, but in the list: one of them has to answer the connection, be it with 503.
    """
    return sorted(
        (worker for worker in workers if worker.load.can_accept()),
        key=lambda worker: (worker.load.has_room(now), not worker.load.is_stuck(now), worker.load.free),
        reverse=True,
    )


def room_is_uncertain(workers: Iterable[HasLoad], now: float) -> bool:
    """Whether it is not known which worker has room: pending connections may take the last places.

    A call that is passed on now might be refused by its worker while another one has a place.
    """
    loads = [worker.load for worker in workers]
    return any(load.has_room(now) for load in loads) and not any(load.surely_has_room(now) for load in loads)


class Backoff:
    """How long to wait before a worker that died is started again."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self, lived: float) -> float:
        """Return the pause in seconds after a process that lived for `lived` seconds."""
        if lived >= _STEADY_SECONDS:
            self._pause = _FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, _LONGEST_PAUSE)
        return pause
