"""The workers as the supervisor sees them: how many there are, which are there, which gets the next connection.

Places (`MAX_CALLS`) are shared out among them. Times are arguments, in seconds.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from sts_trio.web.connections import NEW_SECONDS
from sts_trio.workers.channel import Connection, Others, Report, take_back

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Sequence

    from sts_trio.workers.channel import Channel, Message


# Connections in flight to one worker. It takes them within a millisecond; when no worker does, further connections
# wait in the kernel's queue, as with one process that is busy. Far below what a `Channel` holds.
MAX_IN_FLIGHT = 64
# A worker that has taken nothing for so long, or missed a beat (a report that comes even if nothing has changed), is
# stuck: a tool holds the interpreter, or it was stopped. Others come first.
_STUCK_SECONDS = 1.0
BEAT_SECONDS = 0.25
MISSED_SECONDS = 2 * BEAT_SECONDS
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
        self._heard_at = 0.0

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
        """Whether it has missed a beat, or has taken nothing of what is in flight to it for `_STUCK_SECONDS`."""
        if self.report is not None and now - self._heard_at > MISSED_SECONDS:
            return True
        return self.in_flight > 0 and now - self._moved_at > _STUCK_SECONDS

    def can_accept(self) -> bool:
        """Whether it may be passed a connection at all, if only to refuse it."""
        return self.report is not None and not self.report.detached and self.in_flight < MAX_IN_FLIGHT

    def on_passed(self, now: float) -> None:
        """A connection was passed to it."""
        if self.in_flight == 0:
            self._moved_at = now
        self._passed += 1

    def on_taken_back(self, connections: int) -> None:
        """So many of those in flight to it were given to others."""
        self._passed -= connections

    def on_report(self, report: Report, now: float) -> None:
        """A report of it has come."""
        self._heard_at = now
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


# While it is uncertain which worker has room, a connection waits up to `NEW_SECONDS` for others to send their request.
# Connections that send none must not hold up those that come: each wait in vain costs `_VAIN_COST` seconds of a
# credit, which grows by a second a second. So a flood of them may cost a tenth of the time, and three waits at once.
_VAIN_COST = 10 * NEW_SECONDS
_CREDIT = 3 * _VAIN_COST

_CGROUPS = Path("/sys/fs/cgroup")  # version 2; quotas of version 1 are not looked at
_MEMBERSHIP = Path("/proc/self/cgroup")


class WorkerSlot:
    """The place of one worker, by its number from 1. Its process may die and be replaced; the number stays."""

    def __init__(self, number: int, share: int) -> None:
        self.number = number
        self.share = share
        self.ready = trio.Event()
        """Set when the first report has come, and for ever."""
        self.detach()

    def detach(self) -> None:
        """The slot has no process (any more)."""
        self.process: trio.Process | None = None
        self.channel: Channel | None = None
        self.load = Load(self.share)
        self.theirs: socket.socket | None = None
        self.others: Others | None = None
        """The last message about the others that was sent to the process."""
        self.silent = False
        """The process does not answer, and that has been told."""

    def attach(self, process: trio.Process, channel: Channel, theirs: socket.socket | None = None) -> None:
        """A process has been started for this slot. `theirs`: its own end of the channel, a copy."""
        self.process, self.channel, self.theirs = process, channel, theirs

    @property
    def name(self) -> str:
        """Its name in metrics."""
        return str(self.number)

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """See `Channel.send`."""
        return self.channel is not None and self.channel.send(message, descriptor)


class WorkerPool:
    """The slots of all workers."""

    def __init__(self, shares: Sequence[int]) -> None:
        self.slots = [WorkerSlot(number, share) for number, share in enumerate(shares, 1)]
        self.stopping = trio.Event()
        self.changed = trio.lowlevel.ParkingLot()
        """Tasks that park here are woken when a worker has reported, or its process has ended."""
        self._spent_until = 0.0

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(self.slots)

    @property
    def running(self) -> list[WorkerSlot]:
        """The slots whose process has reported."""
        return [slot for slot in self.slots if slot.load.report is not None]

    def on_report(self, slot: WorkerSlot, report: Report) -> None:
        """A report of a worker has come."""
        slot.load.on_report(report, trio.current_time())
        slot.ready.set()
        self.changed.unpark_all()

    def detach(self, slot: WorkerSlot) -> None:
        """The process of a worker has ended."""
        slot.detach()
        self.changed.unpark_all()

    def pass_connection(self, descriptor: int) -> bool:
        """Send a copy of a connection to the worker with the most free places. False: it could be sent to none."""
        now = trio.current_time()
        for slot in ranked(self.slots, now):
            if slot.send(Connection(), descriptor):
                slot.load.on_passed(now)
                return True
        return False

    def hand_on(self, theirs: socket.socket) -> int:
        """Give the connections that a worker has not received to others, and return their number."""
        number = 0
        for descriptor in take_back(theirs):
            self.pass_connection(descriptor)
            os.close(descriptor)
            number += 1
        return number

    def relieve(self, slot: WorkerSlot) -> int:
        """Give what a stuck worker has not received to others, if one of them answers; return how many."""
        now = trio.current_time()
        helpers = [each for each in self.slots if each is not slot and each.load.can_accept()]
        if slot.theirs is None or all(each.load.is_stuck(now) for each in helpers):
            return 0
        slot.others = None  # it may have been among what was taken back
        number = self.hand_on(slot.theirs)
        slot.load.on_taken_back(number)
        return number

    async def until_one_can_accept(self) -> None:
        """Wait until some worker can accept.

        When only the last places are free, wait up to `NEW_SECONDS` more, until pending connections show which worker
        really has room.
        """
        while not any(slot.load.can_accept() for slot in self.slots):
            await self.changed.park()
        spent = max(self._spent_until, now := trio.current_time()) - now
        if spent + _VAIN_COST > _CREDIT:
            return
        with trio.move_on_after(NEW_SECONDS) as waiting:
            while room_is_uncertain(self.slots, trio.current_time()):
                await self.changed.park()
        if waiting.cancelled_caught:
            self._spent_until = now + spent + _VAIN_COST

    def tell_others(self) -> None:
        """Send each worker what all others have, if that has changed."""
        now = trio.current_time()
        running = self.running
        live = sum(slot.load.live for slot in running)
        with_room = [slot for slot in running if slot.load.has_room(now)]
        for slot in running:
            others = Others(live - slot.load.live, any(other is not slot for other in with_room))
            if others != slot.others and slot.send(others):
                slot.others = others

    def stop(self) -> None:
        """Send each process SIGTERM: it drains. The second time SIGINT: it ends its calls.

        Two signals, since the kernel merges a signal that is pending with another of the same number.
        """
        number = signal.SIGINT if self.stopping.is_set() else signal.SIGTERM
        self.stopping.set()
        self.changed.unpark_all()
        for slot in self.slots:
            if slot.process is not None:
                slot.process.send_signal(number)


def stop_signals() -> tuple[signal.Signals, ...]:
    """The signals that stop the service. SIGHUP is left alone where whoever started us had it ignored (``nohup``)."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hangs_up else ()))


def worker_count(wanted: int, most_calls: int) -> int:
    """Return how many workers to start: as many as `wanted`, 0 for one a core; never more than calls."""
    workers = wanted or usable_cores()
    return min(workers, most_calls) if most_calls else workers


def usable_cores() -> int:
    """Return how many cores this process may use, at least 1; a part of a core counts as one.

    Limits are its affinity and the quotas of its control groups (`docker --cpus`).
    """
    quotas = [quota for text in _cpu_limits() if (quota := cores_of(text)) is not None]
    return max(1, min(len(os.sched_getaffinity(0)), *map(ceil, quotas or [2**20])))


def cores_of(text: str) -> float | None:
    """Return the cores that the text of a `cpu.max` allows: quota and period in µs, or None for `max`."""
    quota, _, period = text.partition(" ")
    if not (quota.isdecimal() and period.strip().isdecimal() and int(period)):
        return None
    return int(quota) / int(period)


def _cpu_limits() -> list[str]:
    """Read each `cpu.max` that holds for us: that of our control group, and those of the groups around it."""
    texts = []
    with suppress(OSError):
        lines = _MEMBERSHIP.read_text().splitlines()
        for line in lines:
            if line.startswith("0::/"):
                group = _CGROUPS / line.removeprefix("0::/")
                for directory in (group, *group.parents):
                    with suppress(OSError):
                        texts.append((directory / "cpu.max").read_text())
    return texts
