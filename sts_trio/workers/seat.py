"""A worker's end of the channel: connections come from the switch, and it is told how many calls there are."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import trio

from sts_trio.call.admission import DRAINING
from sts_trio.workers.channel import Channel
from sts_trio.workers.choice import MOST_ON_THE_WAY
from sts_trio.workers.wire import Ask, Handed, Others, Page, Reading, Report, Tell, pages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from sts_trio.call.admission import Refusal
    from sts_trio.call.registry import Registry
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
        self.gone = trio.Event()
        """The switch is: no connection comes any more, and no word."""
        self._channel = channel
        # As many as the switch lets be on the way, so that putting one in never waits: 64 connections that wait here
        # are 64 callers who wait for a busy event loop, as they would in the kernel's queue.
        self._put, self._come = trio.open_memory_channel[socket.socket | None](MOST_ON_THE_WAY)
        self._lost = 0  # connections that there was no file descriptor left for
        self._leaving = False
        self._told = False
        self._nudged = trio.Event()
        self._scraping = trio.Lock()
        self._page: bytes | None = None
        self._page_came = trio.Event()

    async def run(self, registry: Registry, connections: Connections, scrape: Callable[[], bytes]) -> None:
        """Hear the switch and report to it, until it is gone. `scrape` returns this worker's own metrics."""
        connections.changed = self.nudge

        def report() -> Report:
            return Report(
                live=registry.live,
                places=registry.places,
                silent=connections.silent,
                taken=connections.came + self._lost,
                ready=registry.refusal() is None,
                leaving=self._leaving,
            )

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._report, report)
                await self._hear(scrape)
                nursery.cancel_scope.cancel()
        except* (trio.EndOfChannel, trio.BrokenResourceError):
            pass
        self.gone.set()

    async def _hear(self, scrape: Callable[[], bytes]) -> None:
        reading = Reading()
        while True:
            message, connection = await self._channel.receive()
            match message:
                case Handed() if self._leaving:
                    if connection is not None:
                        connection.close()
                case Handed():
                    self._put.send_nowait(connection)
                case Others():
                    self.others = message
                case Tell(number):
                    for page in pages(number, scrape()):
                        await self._channel.send(page)
                case Page():
                    if (text := reading.feed(message)) is not None:
                        self._page = text
                        self._page_came.set()

    async def _report(self, report: Callable[[], Report]) -> None:
        told: Report | None = None
        while True:
            self._nudged = trio.Event()
            if (now := report()) != told:
                await self._channel.send(now)
                told = now
                await trio.sleep(_REPORT_SECONDS)
            await self._nudged.wait()

    def nudge(self) -> None:
        """Something may have changed that the switch is told."""
        self._nudged.set()

    async def scrape(self) -> bytes | None:
        """Have the switch put the metrics of all workers together. None: it did not in time."""
        with trio.move_on_after(SCRAPE_SECONDS):
            async with self._scraping:
                self._page_came = trio.Event()
                try:
                    await self._channel.send(Ask())
                except trio.BrokenResourceError:
                    return None
                await self._page_came.wait()
                return self._page
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

    async def until_told(self, signalled: Callable[[], Awaitable[object]]) -> None:
        """Wait for a signal, or for the end of the switch: without it nobody can call here, and none would stop us."""
        if self._told:  # once; the second time is for whoever is in a hurry
            await signalled()
            return
        self._told = True
        async with trio.open_nursery() as nursery:

            async def until_gone() -> None:
                await self.gone.wait()
                nursery.cancel_scope.cancel(reason="the switch is gone")

            nursery.start_soon(until_gone)
            await signalled()
            nursery.cancel_scope.cancel()


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
    """The worker's `Doorkeeper`: calls are its own, but whether there is room is asked of all."""

    def __init__(self, registry: Registry, seat: Seat) -> None:
        self._registry = registry
        self._seat = seat

    def refusal(self) -> Refusal | None:
        """See `Doorkeeper`. The switch gives the next call to a worker that has room."""
        own = self._registry.refusal()
        return None if own is not DRAINING and self._seat.others.room else own

    @contextmanager
    def admit(self) -> Iterator[Refusal | None]:
        """See `Doorkeeper`."""
        try:
            with self._registry.admit() as refusal:
                self._seat.nudge()
                yield refusal
        finally:
            self._seat.nudge()
