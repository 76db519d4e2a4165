"""The workers as the switch sees them: who is there, what is on its way to each, and who gets the next connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sts_trio.workers.choice import MOST_ON_THE_WAY, Load, choose, is_open
from sts_trio.workers.wire import Handed, Others, Reading, Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sts_trio.workers.wire import Message

_WORDS = 64  # that may wait for a worker beside the connections on their way: the pages of two large scrapes

# For connections to say what they want, where the last places are at stake: callers do within a few milliseconds. Who
# opens connections and says nothing only makes those who come wait for so long, each.
_OPEN_SECONDS = 0.03


class Worker:
    """One of them, by its number from 1. Its process may die and be another; the number stays."""

    def __init__(self, number: int, share: int) -> None:
        self.number = number
        self.load = Load(share)
        self.ready = trio.Event()
        """It has been there, at least once."""
        self.reading = Reading()
        self.process: trio.Process | None = None
        self.others: Others | None = None
        """What it was told last of the others."""
        self._open_outbox()

    def _open_outbox(self) -> None:
        self._put, self.outbox = trio.open_memory_channel["tuple[Message, trio.SocketStream | None]"](
            MOST_ON_THE_WAY + _WORDS
        )

    @property
    def name(self) -> str:
        """What it is called in metrics."""
        return str(self.number)

    def say(self, message: Message) -> bool:
        """Put a message into its outbox. False: that is full, since it takes nothing."""
        try:
            self._put.send_nowait((message, None))
        except (trio.WouldBlock, trio.ClosedResourceError):
            return False
        return True

    def hand(self, connection: trio.SocketStream) -> None:
        """Put a connection into its outbox; there is room for those that `Load.can_take` allows."""
        self.load.hand(trio.current_time())
        self._put.send_nowait((Handed(), connection))

    def leave(self) -> list[trio.SocketStream]:
        """It is gone, and begins anew. Returns the connections that were not sent to it."""
        self.load.leave()
        self.others = None
        self.process = None
        self._put.close()
        old, left = self.outbox, list[trio.SocketStream]()
        self._open_outbox()
        while True:
            try:
                _, connection = old.receive_nowait()
            except (trio.EndOfChannel, trio.WouldBlock):
                return left
            if connection is not None:
                left.append(connection)


class Crew:
    """All workers."""

    def __init__(self, shares: Sequence[int]) -> None:
        self.workers = [Worker(number, share) for number, share in enumerate(shares, 1)]
        self.stopping = trio.Event()
        self.changed = trio.lowlevel.ParkingLot()
        """Who parks here is woken when a worker has said something, has come or has gone."""

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

    def hang_up(self, worker: Worker) -> None:
        """A worker has closed its end: it is about to be gone, and takes nothing more."""
        if worker.load.report is not None:
            self.hear(worker, Report(live=worker.load.live, ready=False, leaving=True))

    def leave(self, worker: Worker) -> None:
        """A worker is gone; what was not sent to it yet goes to others."""
        left = worker.leave()
        self.changed.unpark_all()
        for connection in left:
            self.hand(connection)

    def hand(self, connection: trio.SocketStream) -> None:
        """Give a connection to the worker with the most free places; close it, if there is none that takes any."""
        worker = choose(self.workers, trio.current_time())
        if worker is None:
            connection.socket.close()
        else:
            worker.hand(connection)

    async def until_one_can_take(self) -> None:
        """Wait until a connection could be given to somebody; where the last places are at stake, to the right one."""
        while not any(worker.load.can_take() for worker in self.workers):
            await self.changed.park()
        with trio.move_on_after(_OPEN_SECONDS):
            while is_open(self.workers, trio.current_time()):
                await self.changed.park()

    def tell_others(self) -> None:
        """Tell each worker what all others have, if that has changed."""
        now = trio.current_time()
        there = self.there
        live = sum(worker.load.live for worker in there)
        with_room = [worker for worker in there if worker.load.has_room(now)]
        for worker in there:
            others = Others(live - worker.load.live, any(other is not worker for other in with_room))
            if others != worker.others and worker.say(others):
                worker.others = others

    def stop(self) -> None:
        """Tell each process that it is to stop."""
        self.stopping.set()
        self.changed.unpark_all()
        for worker in self.workers:
            if worker.process is not None:
                worker.process.terminate()
