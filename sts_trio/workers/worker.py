"""A worker's end of the channel: connections come from the switch, and it is told how many calls there are."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from sts_trio.call.handler import DRAINING
from sts_trio.workers.balancer import MOST_ON_THE_WAY
from sts_trio.workers.channel import Channel, read_text
from sts_trio.workers.wire import Ask, Handed, Others, Report, Tell, Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sts_trio.call.handler import Refusal, Registry
    from sts_trio.web.connections import Connections

# A report goes out at once, and then not for so long: of a crowd that comes at once every tenth has one of its own.
_REPORT_SECONDS = 0.005
SCRAPE_SECONDS = 3.0  # for the switch to ask everybody (`scrapes.WORKER_SECONDS`) and to put it together


class Place(NamedTuple):
    """What the switch gives a worker at its start: its number from 1, its share of MAX_CALLS, the channel's descriptor.

    The share is 0 where MAX_CALLS is: any number.
    """

    number: int
    share: int
    descriptor: int


class Seat:
    """A worker's place at the switch. `run` must run for anything to happen."""

    def __init__(self, channel: Channel) -> None:
        self.others = Others()
        self._channel = channel
        # As many as the switch lets be on the way, so that putting one in never waits: 64 connections that wait here
        # are 64 callers who wait for a busy event loop, as they would in the kernel's queue.
        self._put, self._come = trio.open_memory_channel[socket.socket | None](MOST_ON_THE_WAY)
        self._lost = 0  # connections that there was no file descriptor left for
        self._leaving = False
        self._now: Callable[[], Report] = Report
        self._told: Report | None = None
        self._nudged = trio.Event()
        self._text: bytes | None = None
        self._text_came = trio.lowlevel.ParkingLot()

    async def run(self, registry: Registry, connections: Connections, scrape: Callable[[], bytes]) -> None:
        """Hear the switch and report to it, until it is gone. `scrape` returns this worker's own metrics."""

        def now() -> Report:
            return Report(
                live=registry.live,
                places=registry.places,
                new=connections.new,
                taken=connections.came + self._lost,
                ready=registry.refusal() is None,
                leaving=self._leaving,
            )

        self._now, connections.changed = now, self.nudge
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report)
            await self._hear(scrape)
            nursery.cancel_scope.cancel()

    async def _hear(self, scrape: Callable[[], bytes]) -> None:
        while True:
            try:
                message, descriptor = await self._channel.receive()
            except trio.EndOfChannel:
                return
            match message:
                case Handed():
                    connection = None if descriptor is None else socket.socket(fileno=descriptor)
                    if not self._leaving:
                        self._put.send_nowait(connection)
                    elif connection is not None:
                        connection.close()
                case Others():
                    self.others = message
                case Tell(number):
                    self._channel.send_text(scrape(), number)
                case Text():
                    self._text = read_text(descriptor)
                    self._text_came.unpark_all()

    async def _report(self) -> None:
        while True:
            self._nudged = trio.Event()
            while (now := self._now()) != self._told:
                if self._channel.send(now):  # if not, the switch has stopped for a while, and what it reads is old
                    self._told = now
                await trio.sleep(_REPORT_SECONDS)
            await self._nudged.wait()

    def nudge(self) -> None:
        """Something may have changed that the switch is told."""
        if self._now() != self._told:
            self._nudged.set()

    async def scrape(self) -> bytes | None:
        """Have the switch put the metrics of all workers together. None: it did not in time."""
        if self._channel.send(Ask()):
            with trio.move_on_after(SCRAPE_SECONDS):
                await self._text_came.park()
                return self._text
        return None

    async def accept(self) -> socket.socket:
        """Wait for the next connection; for ever, when the switch is gone.

        Raises:
            OSError: one came, and this process may not open one more file.
        """
        connection = await self._come.receive()
        if connection is None:
            self._lost += 1
            self.nudge()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return connection

    def leave(self) -> None:
        """Take no connection any more. Those that are on their way end here."""
        self._leaving = True
        self.nudge()
        while True:
            try:
                connection = self._come.receive_nowait()
            except trio.WouldBlock:
                return
            if connection is not None:
                connection.close()


def take_seat(place: Place) -> Seat:
    """Open the channel that this process was started with; what a tool starts does not get it too."""
    os.set_inheritable(place.descriptor, False)
    return Seat(Channel(socket.socket(fileno=place.descriptor)))


class HandedOver(trio.abc.Listener[trio.SocketStream]):
    """Accepts what the switch hands over. What the listening socket gave its connections (keepalive), they keep."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat

    async def accept(self) -> trio.SocketStream:
        """See `trio.abc.Listener`."""
        return trio.SocketStream(trio.socket.from_stdlib_socket(await self._seat.accept()))

    async def aclose(self) -> None:
        """See `trio.abc.Listener`."""
        self._seat.leave()
        await trio.lowlevel.checkpoint()


class Keeper:
    """The worker's `Admission`: calls are its own, but whether there is room is asked of all."""

    def __init__(self, registry: Registry, seat: Seat) -> None:
        self._registry = registry
        self._seat = seat

    def refusal(self) -> Refusal | None:
        """See `Admission`. The switch gives the next call to a worker that has room."""
        own = self._registry.refusal()
        return None if own is not DRAINING and self._seat.others.room else own

    @contextmanager
    def admit(self) -> Iterator[Refusal | None]:
        """See `Admission`."""
        try:
            with self._registry.admit() as refusal:
                self._seat.nudge()
                yield refusal
        finally:
            self._seat.nudge()
