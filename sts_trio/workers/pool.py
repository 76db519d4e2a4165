"""The workers as the switch sees them: who is there, and who gets the next connection."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import trio

from sts_trio.web.connections import NEW_SECONDS
from sts_trio.workers.balancer import Load, is_open, ranked
from sts_trio.workers.wire import Handed, Others

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sts_trio.workers.channel import Channel
    from sts_trio.workers.wire import Message, Report

# For connections to say what they want, where the last places are at stake.
_OPEN_SECONDS = NEW_SECONDS
# Connections that say nothing must not hold up those that come: each wait in vain costs so much of a credit, which
# grows by a second a second. So a flood of them may have a tenth of the time, and three waits at its begin.
_VAIN_COST = 10 * _OPEN_SECONDS
_CREDIT = 3 * _VAIN_COST


class Worker:
    """One of them, by its number from 1. Its process may die and be another; the number stays."""

    def __init__(self, number: int, share: int) -> None:
        self.number = number
        self.share = share
        self.ready = trio.Event()
        """It has been there, at least once."""
        self.leave()

    def leave(self) -> None:
        """Its process is gone; the next begins anew."""
        self.process: trio.Process | None = None
        self.channel: Channel | None = None
        self.load = Load(self.share)
        self.others: Others | None = None
        """What it was told last of the others."""

    def begin(self, process: trio.Process, channel: Channel) -> None:
        """A process of it has been started."""
        self.process, self.channel = process, channel

    @property
    def name(self) -> str:
        """What it is called in metrics."""
        return str(self.number)

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """See `Channel.send`."""
        return self.channel is not None and self.channel.send(message, descriptor)


class Crew:
    """All workers."""

    def __init__(self, shares: Sequence[int]) -> None:
        self.workers = [Worker(number, share) for number, share in enumerate(shares, 1)]
        self.stopping = trio.Event()
        self.changed = trio.lowlevel.ParkingLot()
        """Who parks here is woken when a worker has said something, or has gone."""
        self._spent_until = 0.0

    def __iter__(self) -> Iterator[Worker]:
        return iter(self.workers)

    @property
    def there(self) -> list[Worker]:
        """Those that have said that they are there."""
        return [worker for worker in self.workers if worker.load.report is not None]

    def hear(self, worker: Worker, report: Report) -> None:
        """A worker has told what it has."""
        worker.load.hear(report, trio.current_time())
        worker.ready.set()
        self.changed.unpark_all()

    def leave(self, worker: Worker) -> None:
        """A worker is gone."""
        worker.leave()
        self.changed.unpark_all()

    def hand(self, descriptor: int) -> bool:
        """Give a copy of a connection to the worker with the most free places. False: none of them can be sent one."""
        now = trio.current_time()
        for worker in ranked(self.workers, now):
            if worker.send(Handed(), descriptor):
                worker.load.hand(now)
                return True
        return False

    async def until_one_can_take(self) -> None:
        """Wait until a connection could be given to somebody; where the last places are at stake, to the right one."""
        while not any(worker.load.can_take() for worker in self.workers):
            await self.changed.park()
        spent = max(self._spent_until, now := trio.current_time()) - now
        if spent + _VAIN_COST > _CREDIT:
            return
        with trio.move_on_after(_OPEN_SECONDS) as waiting:
            while is_open(self.workers, trio.current_time()):
                await self.changed.park()
        if waiting.cancelled_caught:
            self._spent_until = now + spent + _VAIN_COST

    def tell_others(self) -> None:
        """Tell each worker what all others have, if that has changed."""
        now = trio.current_time()
        there = self.there
        live = sum(worker.load.live for worker in there)
        with_room = [worker for worker in there if worker.load.has_room(now)]
        for worker in there:
            others = Others(live - worker.load.live, any(other is not worker for other in with_room))
            if others != worker.others and worker.send(others):
                worker.others = others

    def stop(self) -> None:
        """Tell each process that it is to stop; the second time, that it is to hurry.

        That is another signal: of one that comes again before it was looked at the kernel keeps only one.
        """
        number = signal.SIGINT if self.stopping.is_set() else signal.SIGTERM
        self.stopping.set()
        self.changed.unpark_all()
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send_signal(number)
